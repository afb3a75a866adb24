//! A body that goes to the next hop more than once: in memory at first, then in a file that has no name.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// Why a body cannot be kept until its turn comes. All of it is refused for now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is over `limits.mta.spool_octets`.
    #[error("more than {0} octets of a body would have to wait")]
    TooLarge(usize),
    /// All of them together are over `limits.mta.spools_octets`.
    #[error("too many octets of bodies wait")]
    Full,
    /// The file.
    #[error("the file of a body that waits: {0}")]
    File(#[from] std::io::Error),
}

/// Where bodies wait, and their room.
#[derive(Clone, Debug)]
pub struct Room {
    dir: PathBuf,
    octets: Arc<Semaphore>,
}

impl Room {
    /// Room below this directory.
    pub fn below(dir: PathBuf, limits: &Limits) -> Room {
        Room { dir, octets: Arc::new(Semaphore::new(limits.mta.spools_octets.min(Semaphore::MAX_PERMITS))) }
    }
}

/// One body that waits.
#[derive(Debug)]
pub struct Spool {
    room: Room,
    taken: Option<OwnedSemaphorePermit>,
    memory: Vec<u8>,
    file: Option<File>,
    length: usize,
    in_memory: usize,
    most: usize,
}

impl Spool {
    /// An empty one.
    pub fn new(room: &Room, limits: &Limits) -> Spool {
        Spool {
            room: room.clone(),
            taken: None,
            memory: Vec::new(),
            file: None,
            length: 0,
            in_memory: limits.mta.spool_memory,
            most: limits.mta.spool_octets,
        }
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// See [`Error`]; then it is good for nothing.
    pub async fn add(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.length = self.length.saturating_add(piece.len());
        if self.length > self.most {
            return Err(Error::TooLarge(self.most));
        }
        let share = u32::try_from(piece.len()).map_err(|_| Error::Full)?;
        let share = self.room.octets.clone().try_acquire_many_owned(share).map_err(|_| Error::Full)?;
        match &mut self.taken {
            Some(taken) => taken.merge(share),
            None => self.taken = Some(share),
        }
        if self.file.is_none() && self.length <= self.in_memory {
            self.memory.extend_from_slice(piece);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let dir = self.room.dir.clone();
                let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
                let mut file = File::from_std(made.map_err(std::io::Error::other)??);
                file.write_all(&self.memory).await?;
                self.memory = Vec::new();
                self.file.insert(file)
            }
        };
        Ok(file.write_all(piece).await?)
    }

    /// Goes back to its beginning.
    ///
    /// # Errors
    /// The file.
    pub async fn rewind(&mut self) -> Result<Reading<'_>, Error> {
        if let Some(file) = &mut self.file {
            file.flush().await?;
            file.seek(SeekFrom::Start(0)).await?;
        }
        Ok(Reading { spool: self, at: 0 })
    }
}

/// A body that is read again.
#[derive(Debug)]
pub struct Reading<'a> {
    spool: &'a mut Spool,
    at: usize,
}

impl Reading<'_> {
    /// The next piece; empty at the end.
    ///
    /// # Errors
    /// The file, or it has become shorter.
    pub async fn next(&mut self) -> Result<Vec<u8>, Error> {
        const PIECE: usize = 64 * 1024;
        let left = self.spool.length.saturating_sub(self.at).min(PIECE);
        let piece = match &mut self.spool.file {
            Some(file) => {
                let mut piece = vec![0; left];
                file.read_exact(&mut piece).await?;
                piece
            }
            None => self.spool.memory.get(self.at..self.at.saturating_add(left)).unwrap_or_default().to_vec(),
        };
        self.at = self.at.saturating_add(piece.len());
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(spool: &mut Spool) -> Vec<u8> {
        let (mut all, mut reading) = (Vec::new(), spool.rewind().await.unwrap());
        loop {
            let piece = reading.next().await.unwrap();
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[tokio::test]
    async fn a_body_comes_back_as_often_as_it_is_read_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let limits =
            Limits::default().with(|limits| (limits.mta.spool_memory, limits.mta.spool_octets) = (10, 300_000));
        let room = Room::below(dir.path().to_owned(), &limits);
        let (mut spool, mut all) = (Spool::new(&room, &limits), Vec::new());
        assert_eq!(read(&mut spool).await, b"");
        for piece in [&b"12345"[..], b"67890", &[b'x'; 200_000], b"end"] {
            spool.add(piece).await.unwrap();
            all.extend_from_slice(piece);
        }
        assert_eq!((read(&mut spool).await == all, read(&mut spool).await == all), (true, true));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(matches!(spool.add(&[0; 100_000]).await, Err(Error::TooLarge(300_000))));
    }

    #[tokio::test]
    async fn room_is_shared_and_given_back() {
        let limits = Limits::default().with(|limits| limits.mta.spools_octets = 5);
        let room = Room::below(std::env::temp_dir(), &limits);
        let (mut one, mut other) = (Spool::new(&room, &limits), Spool::new(&room, &limits));
        one.add(b"abc").await.unwrap();
        assert!(matches!(other.add(b"def").await, Err(Error::Full)));
        drop(one);
        assert!(Spool::new(&room, &limits).add(b"def").await.is_ok());
    }
}
