//! A terminal of our own, for what a program writes on one.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal of 120 columns and 50 rows, and all that was written on it.
#[derive(Debug)]
pub struct Terminal {
    /// What was written so far, with plain line ends.
    pub text: Arc<Mutex<String>>,
    other_end: File,
}

impl Terminal {
    /// Opens one.
    ///
    /// # Panics
    /// When the system has none to give.
    #[must_use]
    pub fn open() -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("a terminal of ours");
        unlockpt(&ours).expect("a terminal that can be opened");
        let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a terminal has a size");
        let name = ptsname(&ours, Vec::new()).expect("a terminal has a name");
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let other_end = OpenOptions::new().read(true).write(true).open(name);
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        // It ends when nobody holds the other end any more.
        std::thread::spawn(move || follow(File::from(ours), &written));
        Terminal { text, other_end: other_end.expect("the other end") }
    }

    /// The end that a program writes to.
    ///
    /// # Panics
    /// When there are no descriptors left.
    #[must_use]
    pub fn other_end(&self) -> Stdio {
        Stdio::from(self.other_end.try_clone().expect("a descriptor"))
    }

    /// What was written so far.
    ///
    /// # Panics
    /// When whoever reads it panicked.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.lock().expect("the text").clone()
    }
}

fn follow(mut terminal: File, text: &Mutex<String>) {
    let mut piece = [0; 4096];
    let mut unread: Vec<u8> = Vec::new();
    while let Ok(count @ 1..) = terminal.read(&mut piece) {
        unread.extend(piece[..count].iter().filter(|byte| **byte != b'\r'));
        // A letter may still be on its way.
        let whole = match std::str::from_utf8(&unread) {
            Ok(_) => unread.len(),
            Err(error) => error.valid_up_to(),
        };
        let read: Vec<u8> = unread.drain(..whole).collect();
        text.lock().expect("the text").push_str(&String::from_utf8_lossy(&read));
    }
}
