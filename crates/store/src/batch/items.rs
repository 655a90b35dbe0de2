//! Small tables: a value by its key.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};

use super::Batch;
use crate::error::Sql;

/// A value as it is stored, and whether its checksum stands for it
type Item = (Vec<u8>, i64);

impl Batch<'_> {
    pub(crate) fn put(&mut self, table: &[u8], key: &[u8], value: &[u8]) -> Sql<()> {
        let mut insert = self.connection.prepare_cached("INSERT OR REPLACE INTO item VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![table, key, i64::from(crc32fast::hash(value)), value]).map(drop)
    }

    /// `Some(None)` if its checksum does not match
    pub(crate) fn item(&self, table: &[u8], key: &[u8]) -> Sql<Option<Option<Bytes>>> {
        let mut select =
            self.connection.prepare_cached("SELECT value, checksum FROM item WHERE name = ?1 AND key = ?2")?;
        let found: Option<Item> = select.query_row([table, key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(found.map(checked))
    }

    pub(crate) fn delete(&mut self, table: &[u8], key: &[u8]) -> Sql<bool> {
        let mut delete = self.connection.prepare_cached("DELETE FROM item WHERE name = ?1 AND key = ?2")?;
        Ok(delete.execute([table, key])? > 0)
    }

    /// Up to `max` keys after `after`, in order, with their values
    pub(crate) fn scan(&self, table: &[u8], after: &[u8], max: usize) -> Sql<Vec<(Bytes, Option<Bytes>)>> {
        let mut select = self.connection.prepare_cached(
            "SELECT value, checksum, key FROM item WHERE name = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        )?;
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = select.query_map(params![table, after, max], |row| {
            Ok((row.get::<_, Vec<u8>>(2)?.into(), checked((row.get(0)?, row.get(1)?))))
        })?;
        rows.collect()
    }
}

fn checked((value, checksum): Item) -> Option<Bytes> {
    (i64::from(crc32fast::hash(&value)) == checksum).then(|| value.into())
}
