// Money is DECIMAL(10,3): here a whole number of thousandths, as text always with three decimals.

export const MAX_MONEY = 9_999_999_999;

export function thousandths(text) {
  const [whole, decimals = ""] = String(text).split(".");
  return Number(whole) * 1000 + Number(decimals.padEnd(3, "0"));
}

export const money = (number) => `${Math.floor(number / 1000)}.${String(number % 1000).padStart(3, "0")}`;
