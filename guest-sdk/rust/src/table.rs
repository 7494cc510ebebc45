//! Tables that processes share.

use std::marker::PhantomData;

use exuvia_abi::table as flags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{Scratch, fetch};
use crate::{Error, Pid, sys};

/// The access of other processes to a table.
///
/// ```
/// let table = exuvia::Table::<u64>::named("hits", exuvia::Access::Public);
/// # let _ = table;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum Access {
    /// Other processes may read.
    #[default]
    Protected = flags::PROTECTED,
    /// No access.
    Private = flags::PRIVATE,
    /// Other processes may read and write.
    Public = flags::PUBLIC,
}

/// Rows outside the memory of any process, like Erlang's ETS: a key of 1 to 1,024 bytes and a
/// value of type `V`, in MessagePack. Rows are ordered by their keys.
///
/// A table belongs to the process that created it, and is deleted when that process terminates,
/// unless it has an heir. It is unaffected by code swaps. This type holds its number: it can be
/// sent and kept in a state. A value that is read later may have been written by a later
/// version, so give new fields of `V` a default.
///
/// ```
/// use exuvia::{Access, Table};
/// let stock: Table<u32> = Table::named("stock", Access::Protected).unwrap();
/// stock.put("apples", &3).unwrap();
/// assert_eq!(stock.get("apples"), Ok(Some(3)));
/// assert_eq!(Table::<u32>::find("stock"), Ok(stock));
/// # stock.end().unwrap();
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Table<V = ()> {
    number: u64,
    #[serde(skip)]
    values: PhantomData<fn(V) -> V>,
}

impl<V> Table<V> {
    pub(crate) fn from_number(number: u64) -> Table<V> {
        Table {
            number,
            values: PhantomData,
        }
    }

    /// Creates a table without a name, owned by this process.
    ///
    /// ```
    /// let table = exuvia::Table::<String>::new(exuvia::Access::Private).unwrap();
    /// # table.end().unwrap();
    /// ```
    pub fn new(access: Access) -> Result<Table<V>, Error> {
        sys::table_new("", access as i32).map(Table::from_number)
    }

    /// Creates a table that others find by its name; [`Error::NameTaken`] if the name is in
    /// use.
    ///
    /// ```
    /// let table = exuvia::Table::<String>::named("names", exuvia::Access::Public).unwrap();
    /// # table.end().unwrap();
    /// ```
    pub fn named(name: &str, access: Access) -> Result<Table<V>, Error> {
        if name.is_empty() {
            return Err(Error::BadArgument);
        }
        sys::table_new(name, access as i32).map(Table::from_number)
    }

    /// Returns the table with this name, or [`Error::NoProc`] if there is none.
    ///
    /// ```
    /// assert!(exuvia::Table::<String>::find("nothing").is_err());
    /// ```
    pub fn find(name: &str) -> Result<Table<V>, Error> {
        sys::table_find(name).map(Table::from_number)
    }

    /// Returns the same table with values of another type, for example for the table in
    /// [`Info::Table`](crate::Info::Table).
    ///
    /// ```
    /// # fn example(given: exuvia::Table) {
    /// let stock: exuvia::Table<u32> = given.of();
    /// # let _ = stock; }
    /// ```
    pub fn of<W>(self) -> Table<W> {
        Table::from_number(self.number)
    }

    /// Returns the value of a key, or `None` if there is no such row.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.get("nothing"), Ok(None));
    /// # table.end().unwrap();
    /// ```
    pub fn get(self, key: impl AsRef<[u8]>) -> Result<Option<V>, Error>
    where
        V: DeserializeOwned,
    {
        let key = key.as_ref();
        let found = fetch(|room| sys::table_get(self.number, key, room))?;
        found.map(|bytes| crate::decode(&bytes)).transpose()
    }

    /// Stores a row; returns whether it replaced one. [`Error::Limit`]: the tables of the owner
    /// have reached their maximum size (`limits.tables` of the manifest).
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.put("apples", &3), Ok(false));
    /// # table.end().unwrap();
    /// ```
    pub fn put(self, key: impl AsRef<[u8]>, value: &V) -> Result<bool, Error>
    where
        V: Serialize,
    {
        self.write(key.as_ref(), value, 0)
    }

    /// Stores a row if there is none with that key; returns whether it did.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.insert("apples", &3), Ok(true));
    /// assert_eq!(table.insert("apples", &4), Ok(false));
    /// # table.end().unwrap();
    /// ```
    pub fn insert(self, key: impl AsRef<[u8]>, value: &V) -> Result<bool, Error>
    where
        V: Serialize,
    {
        self.write(key.as_ref(), value, flags::NEW).map(|was| !was)
    }

    fn write(self, key: &[u8], value: &V, flags: i32) -> Result<bool, Error>
    where
        V: Serialize,
    {
        let mut scratch = Scratch::new();
        scratch.encode(value)?;
        let was = sys::table_put(self.number, key, scratch.as_slice(), flags);
        Error::check(was).map(|()| was != 0)
    }

    /// Removes a row; returns whether there was one.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.delete("apples"), Ok(false));
    /// # table.end().unwrap();
    /// ```
    pub fn delete(self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let was = sys::table_delete(self.number, key.as_ref());
        Error::check(was).map(|()| was != 0)
    }

    /// Adds to a counter, which starts at 0, and returns the sum. The operation is atomic. A
    /// counter's row is not a value of type `V`.
    ///
    /// ```
    /// # let table = exuvia::Table::<()>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.add("hits", 2), Ok(2));
    /// assert_eq!(table.add("hits", -1), Ok(1));
    /// # table.end().unwrap();
    /// ```
    pub fn add(self, key: impl AsRef<[u8]>, amount: i64) -> Result<i64, Error> {
        sys::table_add(self.number, key.as_ref(), amount)
    }

    /// Returns the keys in order. Each is looked up when it is requested: rows may be added and
    /// removed meanwhile.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// # table.put("b", &1).unwrap();
    /// # table.put("a", &1).unwrap();
    /// let keys: Result<Vec<_>, _> = table.keys().collect();
    /// assert_eq!(keys.unwrap(), [b"a", b"b"]);
    /// # table.end().unwrap();
    /// ```
    pub fn keys(self) -> Keys {
        self.keys_after([])
    }

    /// Returns the keys after `key`, which need not exist.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert!(table.keys_after("m").next().is_none());
    /// # table.end().unwrap();
    /// ```
    pub fn keys_after(self, key: impl AsRef<[u8]>) -> Keys {
        Keys {
            table: self.number,
            last: Some(key.as_ref().to_vec()),
        }
    }

    /// Returns the number of rows.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.rows(), Ok(0));
    /// # table.end().unwrap();
    /// ```
    pub fn rows(self) -> Result<u64, Error> {
        self.info(flags::ROWS)
    }

    /// Returns the size of the rows in bytes: keys, values and 96 for each row.
    ///
    /// ```
    /// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// assert_eq!(table.bytes(), Ok(0));
    /// # table.end().unwrap();
    /// ```
    pub fn bytes(self) -> Result<u64, Error> {
        self.info(flags::BYTES)
    }

    fn info(self, what: i32) -> Result<u64, Error> {
        let number = sys::table_info(self.number, what);
        // A code fits into 32 bits.
        u64::try_from(number).map_err(|_| Error::from_code(i32::try_from(number).unwrap_or(-1)))
    }

    /// Sets the process that inherits the table when its owner, this process, terminates,
    /// notified by [`Info::Table`](crate::Info::Table) with this tag; `None` for no heir.
    ///
    /// ```
    /// # fn example(table: exuvia::Table<u32>, supervisor: exuvia::Pid) {
    /// table.set_heir(Some(supervisor), 7).ok();
    /// # }
    /// ```
    pub fn set_heir(self, heir: Option<Pid>, tag: u32) -> Result<(), Error> {
        Error::check(sys::table_heir(self.number, heir, tag))
    }

    /// Gives the table, which belongs to this process, to another one, which is notified by
    /// [`Info::Table`](crate::Info::Table) with this tag.
    ///
    /// ```
    /// # fn example(table: exuvia::Table<u32>, worker: exuvia::Pid) {
    /// table.give(worker, 7).ok();
    /// # }
    /// ```
    pub fn give(self, to: Pid, tag: u32) -> Result<(), Error> {
        Error::check(sys::table_give(self.number, to, tag))
    }

    /// Deletes the table, which belongs to this process, with all its rows.
    ///
    /// ```
    /// let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
    /// table.end().unwrap();
    /// ```
    pub fn end(self) -> Result<(), Error> {
        Error::check(sys::table_end(self.number))
    }
}

/// The keys of a table, from [`Table::keys`].
///
/// ```
/// # let table = exuvia::Table::<u32>::new(exuvia::Access::Private).unwrap();
/// for key in table.keys() {
///     exuvia::info!("{:?}", key.unwrap());
/// }
/// # table.end().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Keys {
    table: u64,
    /// The last key returned; `None` at the end.
    last: Option<Vec<u8>>,
}

impl Iterator for Keys {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let last = self.last.take()?;
        match fetch(|room| sys::table_next(self.table, &last, room)) {
            Ok(next) => {
                self.last.clone_from(&next);
                next.map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}

// Implemented by hand: derives would put bounds on the type parameter.

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Table<V> {}

impl<V> PartialEq for Table<V> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<V> Eq for Table<V> {}

impl<V> std::fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table(#{})", self.number)
    }
}
