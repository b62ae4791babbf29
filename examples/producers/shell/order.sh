#!/bin/sh
# Registers an item, puts it on sale and orders one of it; prints what became of each job.
#
#   REDIS_URL=redis://localhost:6379 sh order.sh ITEM_ID
set -eu

limit_s=30
case ${1-} in '' | *[!A-Za-z0-9._-]*) echo 'usage: order.sh ITEM_ID (letters, digits and . _ - only)' >&2; exit 1 ;; esac
item=$1

# Of several streams: what belongs together goes into one, since there is an order within a stream only. Here that is an item with its
# orders, so that all of their jobs go by the item, and not each by its key. gzip ends with the CRC-32 of zlib and a length.
streams=${JOBS_STREAM:-jobs}
crc=$(printf %s "$item" | gzip -c | tail -c 8 | od -An -N4 -tu1 | awk '{ print $1 + 256 * ($2 + 256 * ($3 + 256 * $4)) }')
stream=$(printf %s "$streams" | tr , '\n' | awk -v crc="$crc" '{ name[NR] = $0 } END { print name[crc % NR + 1] }')

# -e (redis-cli 7): an answer that is an error is a failure.
broker() { redis-cli -e --no-auth-warning -u "${REDIS_URL:-redis://localhost:6379}" "$@"; }
new_id() { { cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen; } | tr A-F a-f; } # replies spell ids in lower case

replies=reply:order:$(new_id) # ours alone, so that nobody else's outcomes are in it
last=0-0
trap 'broker DEL "$replies" >/dev/null' EXIT

# run TYPE KEY DATA: pushes one job and waits for its outcome, because the next job builds on it.
run() {
  # Chosen before the first XADD and kept when it is tried again: a job that stands in the stream twice is still one job.
  # A program that must survive its own crash stores the id first.
  id=$(new_id)
  tries=1
  # One XADD, without MAXLEN: that would throw away jobs which nobody has run.
  until broker XADD "$stream" '*' id "$id" type "$1" key "$2" data "$3" reply "$replies" >/dev/null; do
    [ $((tries += 1)) -le 5 ] || exit 1
    sleep 1
  done
  deadline=$(($(date +%s) + limit_s))
  while [ "$(date +%s)" -lt "$deadline" ]; do
    # One entry a line at a time: the stream, the entry's id, then names and values in turn.
    read=$(broker XREAD COUNT 1 BLOCK 1000 STREAMS "$replies" "$last") || { sleep 1; continue; }
    [ -n "$read" ] || continue
    last=$(printf '%s\n' "$read" | sed -n 2p)
    # An outcome may come more than once, so an older job's can come again: only the one that bears our id counts.
    [ "$(field id)" = "$id" ] || continue
    reason=$(field reason)
    echo "$1 $(field outcome)${reason:+ $reason}"
    [ "$(field outcome)" = applied ] || exit 1
    return
  done
  echo "job $id has no outcome after $limit_s s; it is in the stream and may still run" >&2
  exit 1
}
field() { printf '%s\n' "$read" | awk -v name="$1" 'NR > 2 && NR % 2 { found = $0 == name; next } found { print }'; }

run item.register "$item" '{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":100,"member_id":7}'
run item.allow_sale "$item" '{}'
run order.place "$(new_id)" "{\"member_id\":42,\"lines\":[{\"item_id\":\"$item\",\"quantity\":1}]}"
