//! The bans on disk: one embedded database file, every commit durable.

mod row;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use ipnet::IpNet;
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableHandle,
};

use self::row::Key;
pub use self::row::{BanRow, RecordRow};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "bans.redb";

/// The layout of the tables below; a file of another is set aside.
const FORMAT: u64 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const BANS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("bans");
const RECORDS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("records");

/// Memory for pages of the file.
const CACHE_BYTES: usize = 4 << 20;

/// How many damaged files are kept for inspection; the last is overwritten.
const SET_ASIDE_MAX: u32 = 9;

/// What was in the file.
#[derive(Debug, Default)]
pub struct Loaded {
    pub bans: Vec<(IpNet, BanRow)>,
    pub records: Vec<(IpNet, RecordRow)>,
    /// Rows that could not be read, and were left out.
    pub skipped: usize,
    /// Whether the file was begun by this opening.
    pub is_new: bool,
    /// Where a damaged file was moved, and what was wrong with it.
    pub set_aside: Option<(PathBuf, StoreError)>,
}

/// What one commit writes: rows by target, none where the row is deleted.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Whether this is all that shall remain in the file.
    pub whole: bool,
    pub bans: BTreeMap<IpNet, Option<BanRow>>,
    pub records: BTreeMap<IpNet, Option<RecordRow>>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.bans.len() + self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        !self.whole && self.len() == 0
    }

    /// Takes in what an older batch wanted to write, where this one does not say otherwise.
    pub fn absorb(&mut self, older: Self) {
        if self.whole {
            return;
        }
        self.whole = older.whole;
        for (target, row) in older.bans {
            self.bans.entry(target).or_insert(row);
        }
        for (target, row) in older.records {
            self.records.entry(target).or_insert(row);
        }
    }
}

/// What a commit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Written,
    /// The file had to be begun anew, so that only this batch is in it.
    Anew,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("{path} is damaged or not a ban database")]
    Damaged { path: PathBuf, source: Box<redb::Error> },
    #[error("reading {path} failed within the database engine, it is damaged")]
    Panicked { path: PathBuf },
    #[error("{path} is not a ban database of format {FORMAT}, found {found:?}")]
    Format { path: PathBuf, found: Option<u64> },
    #[error("{path} cannot be read or written")]
    Io { path: PathBuf, source: Box<redb::Error> },
    #[error("damaged {path} cannot be moved aside")]
    SetAside { path: PathBuf, source: io::Error },
}

impl StoreError {
    /// Whether the file itself is to blame, so that a new one may take its place.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Panicked { .. } | Self::Format { .. })
    }

    fn new(path: &Path, source: redb::Error) -> Self {
        use redb::Error;
        let (path, source) = (path.to_owned(), Box::new(source));
        match &*source {
            Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => Self::InUse { path },
            Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Io { path, source }
            }
            Error::PreviousIo | Error::DatabaseClosed => Self::Io { path, source },
            _ => Self::Damaged { path, source },
        }
    }
}

/// The file, opened and locked by this process.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None after an error: the engine refuses to go on, so the next commit opens the file anew.
    database: Option<Database>,
}

impl Store {
    /// Opens the file in a directory that exists, or begins one, and reads all of it.
    ///
    /// A damaged or foreign file is moved to `bans.redb.corrupt-<n>`: a firewall that cannot start
    /// protects nobody. A file that another process holds is an error and stays where it is.
    pub fn open(directory: &Path) -> Result<(Self, Loaded), StoreError> {
        let path = directory.join(FILE_NAME);
        let (database, loaded) = open_or_begin_anew(&path)?;
        Ok((Self { path, database: Some(database) }, loaded))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A store whose file is looked for at the next commit, as after an error.
    #[cfg(test)]
    pub(super) fn misplaced(directory: &Path) -> Self {
        Self { path: directory.join(FILE_NAME), database: None }
    }

    /// Lets another process open the file; the next commit opens it again.
    pub fn close(&mut self) {
        self.database = None;
    }

    /// Writes a batch. On return it is on disk.
    pub fn commit(&mut self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut committed = Committed::Written;
        let database = if let Some(database) = self.database.take() {
            database
        } else {
            let (database, loaded) = open_or_begin_anew(&self.path)?;
            if loaded.is_new {
                committed = Committed::Anew;
            }
            database
        };
        let written = catch_unwind(AssertUnwindSafe(|| write(&database, batch)));
        match written {
            Ok(Ok(())) => {
                self.database = Some(database);
                Ok(committed)
            }
            Ok(Err(error)) => Err(StoreError::new(&self.path, error)),
            Err(_) => Err(StoreError::Panicked { path: self.path.clone() }),
        }
    }
}

fn open_or_begin_anew(path: &Path) -> Result<(Database, Loaded), StoreError> {
    match open(path) {
        Err(error) if error.is_damage() => {
            let moved = set_aside(path)?;
            let (database, loaded) = open(path)?;
            Ok((database, Loaded { set_aside: Some((moved, error)), ..loaded }))
        }
        opened => opened,
    }
}

/// Moves a file to the first name that is free.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{number}"));
        PathBuf::from(name)
    };
    let free = (1..SET_ASIDE_MAX).map(name).find(|name| !name.exists());
    let moved = free.unwrap_or_else(|| name(SET_ASIDE_MAX));
    match std::fs::rename(path, &moved) {
        Ok(()) => Ok(moved),
        Err(source) => Err(StoreError::SetAside { path: path.to_owned(), source }),
    }
}

fn open(path: &Path) -> Result<(Database, Loaded), StoreError> {
    // The engine promises errors, not panics, for a file whose integrity it checks; but this is
    // the one place where somebody else's bytes could keep the firewall from starting.
    match catch_unwind(|| open_unguarded(path)) {
        Ok(opened) => opened,
        Err(_) => Err(StoreError::Panicked { path: path.to_owned() }),
    }
}

fn open_unguarded(path: &Path) -> Result<(Database, Loaded), StoreError> {
    let failed = |error: redb::Error| StoreError::new(path, error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(error.into()))?;
    let backend = FileBackend::new(file).map_err(|error| failed(error.into()))?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(|error: DatabaseError| failed(error.into()))?;
    let format = format(&database).map_err(failed)?;
    match format {
        Format::Empty => begin(&database).map_err(failed)?,
        Format::Known(FORMAT) => {}
        Format::Known(found) => {
            return Err(StoreError::Format { path: path.to_owned(), found: Some(found) });
        }
        Format::Foreign => {
            return Err(StoreError::Format { path: path.to_owned(), found: None });
        }
    }
    let loaded = read(&database).map_err(failed)?;
    Ok((database, Loaded { is_new: matches!(format, Format::Empty), ..loaded }))
}

enum Format {
    Empty,
    Known(u64),
    /// A database, but of something else.
    Foreign,
}

fn format(database: &Database) -> Result<Format, redb::Error> {
    let transaction = database.begin_read()?;
    let mut tables = transaction.list_tables()?.peekable();
    if tables.peek().is_none() {
        return Ok(Format::Empty);
    }
    if !tables.any(|table| table.name() == META.name()) {
        return Ok(Format::Foreign);
    }
    let found = transaction.open_table(META)?.get(FORMAT_KEY)?;
    Ok(found.map_or(Format::Foreign, |found| Format::Known(found.value())))
}

fn begin(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    transaction.open_table(BANS)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(())
}

fn read(database: &Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_read()?;
    let (bans, bans_skipped) = rows(&transaction.open_table(BANS)?)?;
    let (records, records_skipped) = rows(&transaction.open_table(RECORDS)?)?;
    let skipped = bans_skipped + records_skipped;
    Ok(Loaded { bans, records, skipped, ..Loaded::default() })
}

/// The rows of a table by target, and how many could not be read.
fn rows<Row: serde::de::DeserializeOwned + Send>(
    table: &impl ReadableTable<Key, &'static [u8]>,
) -> Result<(Vec<(IpNet, Row)>, usize), StorageError> {
    // Parsing takes as long as reading: each has a thread.
    let (rows, read) = thread::scope(|scope| {
        let (chunks, coming) = mpsc::sync_channel(CHUNKS_WAITING);
        let parsing = scope.spawn(move || parsed(coming.iter()));
        let read = read_chunks(table, &chunks);
        drop(chunks);
        (parsing.join(), read)
    });
    read?;
    // What panics while it reads a file is caught where that is opened.
    Ok(rows.unwrap_or_else(|panicked| resume_unwind(panicked)))
}

/// Rows as they are in the file, one behind the other; of each its key and where its value ends.
#[derive(Default)]
struct Chunk {
    ends: Vec<(Key, usize)>,
    values: Vec<u8>,
}

/// Octets of values from which on a chunk is passed on.
const CHUNK_OCTETS: usize = 1 << 18;
/// Chunks that are read before they are parsed.
const CHUNKS_WAITING: usize = 4;

fn read_chunks(
    table: &impl ReadableTable<Key, &'static [u8]>,
    chunks: &mpsc::SyncSender<Chunk>,
) -> Result<(), StorageError> {
    let mut chunk = Chunk::default();
    for entry in table.iter()? {
        let (key, value) = entry?;
        chunk.values.extend(value.value());
        chunk.ends.push((key.value(), chunk.values.len()));
        if chunk.values.len() >= CHUNK_OCTETS && chunks.send(std::mem::take(&mut chunk)).is_err() {
            return Ok(());
        }
    }
    // Nobody takes it only where the other thread has panicked, which is seen when it is joined.
    drop(chunks.send(chunk));
    Ok(())
}

fn parsed<Row: serde::de::DeserializeOwned>(
    chunks: impl Iterator<Item = Chunk>,
) -> (Vec<(IpNet, Row)>, usize) {
    let (mut rows, mut skipped) = (Vec::new(), 0);
    for chunk in chunks {
        let mut from = 0;
        for (key, to) in chunk.ends {
            let value = chunk.values.get(from..to).unwrap_or_default();
            match (row::target(key), serde_json::from_slice(value)) {
                (Some(target), Ok(row)) => rows.push((target, row)),
                _ => skipped += 1,
            }
            from = to;
        }
    }
    (rows, skipped)
}

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    write_table(&mut transaction.open_table(BANS)?, batch.whole, &batch.bans)?;
    write_table(&mut transaction.open_table(RECORDS)?, batch.whole, &batch.records)?;
    transaction.commit()?;
    Ok(())
}

fn write_table<Row: serde::Serialize>(
    table: &mut redb::Table<'_, Key, &'static [u8]>,
    whole: bool,
    rows: &BTreeMap<IpNet, Option<Row>>,
) -> Result<(), redb::Error> {
    if whole {
        table.retain(|_, _| false)?;
    }
    for (&target, row) in rows {
        match row {
            Some(row) => {
                let json = serde_json::to_vec(row).map_err(io::Error::from)?;
                table.insert(row::key(target), json.as_slice())?;
            }
            None => {
                table.remove(row::key(target))?;
            }
        }
    }
    Ok(())
}
