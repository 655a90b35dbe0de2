//! Small tables: values by their keys, durable as everything here.

use bytes::Bytes;

use crate::entry::checked_name;
use crate::{Pending, Store, StoreError};

/// One table of a [`Store`], for state that is small: its octets don't count towards the store's bound
#[derive(Clone, Debug)]
pub struct Table {
    store: Store,
    name: Bytes,
}

impl Table {
    pub(crate) fn new(store: Store, name: Bytes) -> Self {
        Self { store, name }
    }

    /// Sets the value of a key of 1 to 255 octets
    ///
    /// # Errors
    /// The value is larger than a body may be, or the disk full.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Pending<()> {
        let (name, key, value) = (self.name.clone(), key.into(), value.into());
        let (octets, max) = (value.len(), self.store.max_body());
        let checked = match checked_name("table's key", &key) {
            Ok(()) if octets > max => Err(StoreError::TooLarge { octets, max }),
            checked => checked,
        };
        match checked {
            Ok(()) => self.store.submit(true, octets, move |batch| batch.put(&name, &key, &value).map(Ok)),
            Err(error) => Pending::new(async { Err(error) }),
        }
    }

    /// The value of a key
    ///
    /// # Errors
    /// It is damaged.
    pub fn value(&self, key: impl Into<Bytes>) -> Pending<Option<Bytes>> {
        let (name, key, path) = (self.name.clone(), key.into(), self.file());
        self.store.submit(false, 0, move |batch| {
            let item = batch.item(&name, &key)?;
            Ok(item.map(|value| value.ok_or_else(|| damaged(&path, &key))).transpose())
        })
    }

    /// Deletes a key; whether it was there
    pub fn delete(&self, key: impl Into<Bytes>) -> Pending<bool> {
        let (name, key) = (self.name.clone(), key.into());
        self.store.submit(true, 0, move |batch| batch.delete(&name, &key).map(Ok))
    }

    /// Up to `max` keys that come after `after` in the order of octets, with their values
    ///
    /// # Errors
    /// One of them is damaged.
    pub fn scan(&self, after: impl Into<Bytes>, max: usize) -> Pending<Vec<(Bytes, Bytes)>> {
        let (name, after, path) = (self.name.clone(), after.into(), self.file());
        self.store.submit(false, 0, move |batch| {
            let checked = batch.scan(&name, &after, max)?.into_iter().map(|(key, value)| match value {
                Some(value) => Ok((key, value)),
                None => Err(damaged(&path, &key)),
            });
            Ok(checked.collect())
        })
    }

    fn file(&self) -> std::path::PathBuf {
        crate::schema::file_in(self.store.directory())
    }
}

fn damaged(path: &std::path::Path, key: &[u8]) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: format!("the value of `{}`", key.escape_ascii()) }
}
