//! Reading columns.

use sqlx::Row;
use sqlx::mysql::MySqlRow;

use super::error::{Outage, StoreError};

/// Reads a column, with the error as one of the server's: a column of another type is a schema of another version. What the
/// column says of its type is not compared, since the library takes text with a binary collation for bytes.
pub fn column<'r, T>(row: &'r MySqlRow, index: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::MySql>,
{
    row.try_get_unchecked(index).map_err(|error| StoreError::Unavailable(Outage::Other, error.to_string()))
}
