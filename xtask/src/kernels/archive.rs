//! The archive that a kernel unpacks into memory before it starts the first process: cpio, "newc".

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// An archive being written.
pub(super) struct Archive {
    path: PathBuf,
    out: BufWriter<File>,
    /// What it holds, without the leading `/`.
    held: BTreeSet<PathBuf>,
}

impl Archive {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let out = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::new(out), held: BTreeSet::new() })
    }

    /// A directory, and those above it.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let mut above: Vec<_> = path.ancestors().filter(|path| *path != Path::new("")).collect();
        above.reverse();
        for directory in above {
            if self.held.insert(directory.to_owned()) {
                self.entry(directory.as_os_str(), DIRECTORY, &[])?;
            }
        }
        Ok(())
    }

    /// A file that is there, at another path.
    pub(super) fn file(&mut self, from: &Path, to: &Path) -> Result<()> {
        let to = to.strip_prefix("/").unwrap_or(to);
        if !self.held.insert(to.to_owned()) {
            return Ok(());
        }
        self.directory(to.parent().unwrap_or(Path::new("")))?;
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.entry(to.as_os_str(), EXECUTABLE, &content)
    }

    /// A program without its debug information, and the libraries that it is linked with. `scratch`
    /// takes the smaller copy for as long as this takes.
    pub(super) fn program(&mut self, from: &Path, to: &Path, scratch: &Path) -> Result<()> {
        let stripped = scratch.join("stripped");
        let status = Command::new("strip")
            .args(["--strip-debug", "-o"])
            .args([&stripped, from])
            .status()
            .context("starting strip, of a C compiler's tools")?;
        ensure!(status.success(), "strip ended with {status}");
        self.file(&stripped, to)?;
        fs::remove_file(&stripped)?;
        for library in libraries(from)? {
            self.file(&library, &library)?;
        }
        Ok(())
    }

    /// Closes the archive and says where it is.
    pub(super) fn finish(mut self) -> Result<PathBuf> {
        self.entry(OsStr::new("TRAILER!!!"), 0, &[])?;
        self.out.flush()?;
        Ok(self.path)
    }

    fn entry(&mut self, name: &OsStr, mode: u32, content: &[u8]) -> Result<()> {
        let number = u32::try_from(self.held.len())?;
        let size = u32::try_from(content.len()).context("a file of more than 4 GiB")?;
        let name_size = u32::try_from(name.len() + 1)?;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // Inode, mode, owner, group, links, time, size, device, device's number, name's size, sum.
        let fields = [number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name.as_bytes())?;
        let header = 6 + 8 * fields.len() + name.len();
        // The name ends with a zero at least.
        self.zeros(4 - header % 4)?;
        self.out.write_all(content)?;
        self.zeros((4 - content.len() % 4) % 4)
    }

    /// At most four.
    fn zeros(&mut self, count: usize) -> Result<()> {
        Ok(self.out.write_all([0; 4].get(..count).unwrap_or_default())?)
    }
}

/// The libraries of a program and its loader, by their absolute paths.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
    ensure!(output.status.success(), "ldd {}: {}", program.display(), output.status);
    Ok(paths(&String::from_utf8_lossy(&output.stdout)))
}

fn paths(listed: &str) -> Vec<PathBuf> {
    // `libc.so.6 => /lib/x/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `linux-vdso.so.1 (0x…)`
    let words = listed.lines().filter_map(|line| {
        let line = line.rsplit_once("=> ").map_or(line, |(_, path)| path);
        line.split_whitespace().next()
    });
    words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffe)\n\
            \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tstatically linked\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(listed), expected);
    }

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let folder = std::env::temp_dir().join(format!("firewall-archive-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        for (name, content) in [("a", "1"), ("bc", "123"), ("cde", "1234"), ("defg", "")] {
            fs::write(folder.join(name), content).unwrap();
        }
        let mut archive = Archive::new(&folder.join("archive")).unwrap();
        for name in ["a", "bc", "cde", "defg"] {
            archive.file(&folder.join(name), &Path::new("/x/y").join(name)).unwrap();
        }
        let octets = fs::read(archive.finish().unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let magic = b"070701";
        let starts: Vec<usize> =
            (0..octets.len()).filter(|at| octets[*at..].starts_with(magic)).collect();
        // Two directories, four files, the trailer.
        assert_eq!(starts.len(), 7);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let text = String::from_utf8_lossy(&octets).into_owned();
        assert!(text.contains("x/y/cde\0"), "{text}");
        assert_eq!(octets.len() % 4, 0);
    }
}
