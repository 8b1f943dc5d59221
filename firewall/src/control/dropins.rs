//! Drop-ins: what stands in `firewall.d/*.toml` beside `firewall.toml`, so that a package, a tool and an
//! operator each have a file of their own.
//!
//! They are read in the order of their names. What a later one says of a key counts; tables are taken
//! together key by key; an entry of `[[api]]`, `[[feed]]` or `[[kernel.interface]]` amends the earlier
//! one of its name, or is one more.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::config::{ConfigError, ConfigFile};

/// More drop-ins than this are not meant.
const DROPINS_MAX: usize = 256;

/// Stands for the directory of credentials at a path's beginning, as in systemd's units.
const CREDENTIALS: &str = "%d";

/// The configuration as a whole, and where it came from.
#[derive(Debug)]
pub struct Configuration {
    pub file: ConfigFile,
    /// The file, the directory of its drop-ins, whether there is one or not, and each of these.
    pub read: Vec<PathBuf>,
}

/// Where the drop-ins of a configuration file are: `firewall.d` of `firewall.toml`.
pub fn directory(config: &Path) -> PathBuf {
    config.with_extension("d")
}

/// The names in a directory that are those of drop-ins, in their order; none where it is missing.
///
/// # Errors
///
/// If the directory is there and cannot be read.
pub fn names(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = PathBuf::from(entry?.file_name());
        // Editors and Kubernetes keep what is hidden for themselves.
        let is_hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
        if !is_hidden && name.extension().is_some_and(|extension| extension == "toml") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl ConfigFile {
    /// Reads and parses the file and its drop-ins; relative paths in all of them are taken from the
    /// file's directory.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Ok(read(path)?.file)
    }

    /// Every path of a file that is read.
    fn locate(&mut self, place: impl Fn(&Path) -> PathBuf) {
        self.listen.locate(&place);
        for api in &mut self.api {
            api.spec = place(&api.spec);
            api.upstream.locate(&place);
            for reference in api.references.values_mut() {
                *reference = place(reference);
            }
        }
        for path in self.feed.iter_mut().flat_map(|feed| [&mut feed.path, &mut feed.ca]).flatten() {
            *path = place(path);
        }
    }
}

/// Where a path of the configuration leads: from the file's directory or, where it begins so, from the
/// directory in which a service manager puts credentials.
fn located(directory: &Path, credentials: Option<&Path>, path: &Path) -> PathBuf {
    match (path.strip_prefix(CREDENTIALS), credentials) {
        (Ok(name), Some(credentials)) => credentials.join(name),
        _ => directory.join(path),
    }
}

/// The same, with what was read.
pub fn read(path: &Path) -> Result<Configuration, ConfigError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| ConfigError::Unreadable { path, source }
    };
    let directory = directory(path);
    let names = names(&directory).map_err(unreadable(&directory))?;
    if names.len() > DROPINS_MAX {
        let message = format!("expected at most {DROPINS_MAX} drop-ins, found {}", names.len());
        return Err(ConfigError::Invalid { path: directory, line: None, message });
    }
    let mut pieces = Vec::new();
    let paths = names.into_iter().map(|name| directory.join(name));
    for path in std::iter::once(path.to_owned()).chain(paths) {
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        pieces.push(Piece { path, text });
    }
    let mut file = taken_together(&pieces)?;
    let directory_of_file = path.parent().unwrap_or(Path::new(""));
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    file.locate(|path| located(directory_of_file, credentials.as_deref(), path));
    let mut read: Vec<_> = pieces.into_iter().map(|piece| piece.path).collect();
    read.insert(1, directory);
    Ok(Configuration { file, read })
}

/// One file.
struct Piece {
    path: PathBuf,
    text: String,
}

/// Parses each piece, takes them together, and reads the whole. Offsets are those in a text of all
/// pieces, one behind the other, so that an error of the whole has its place in one of them.
fn taken_together(pieces: &[Piece]) -> Result<ConfigFile, ConfigError> {
    let mut whole = DeTable::new();
    let mut base = 0;
    for piece in pieces {
        let parsed = DeTable::parse(&piece.text);
        let table = parsed.map_err(|error| piece.error(start(error.span()), error.message()))?;
        merge(&mut whole, shifted(table.into_inner(), base));
        base += piece.text.len();
    }
    let file = ConfigFile::deserialize(Deserializer::from(Spanned::new(0..base, whole)));
    file.map_err(|error| {
        let mut left = start(error.span());
        for (piece, later) in pieces.iter().zip((0..pieces.len()).rev()) {
            if left < piece.text.len() || later == 0 {
                return piece.error(left, error.message());
            }
            left -= piece.text.len();
        }
        // There is always the first file.
        let message = error.message().to_owned();
        ConfigError::Invalid { path: PathBuf::new(), line: None, message }
    })
}

fn start(span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}

impl Piece {
    /// What is wrong at an offset.
    fn error(&self, offset: usize, message: &str) -> ConfigError {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = Some(before.matches('\n').count() + 1);
        ConfigError::Invalid { path: self.path.clone(), line, message: message.to_owned() }
    }
}

fn shifted(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let moved = |span: Range<usize>| span.start + by..span.end + by;
    let entry = |(key, value): (Spanned<_>, Spanned<_>)| {
        let key = Spanned::new(moved(key.span()), key.into_inner());
        (key, shifted_value(value, by))
    };
    table.into_iter().map(entry).collect()
}

fn shifted_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shifted(table, by)),
        DeValue::Array(array) => {
            DeValue::Array(array.into_iter().map(|item| shifted_value(item, by)).collect())
        }
        scalar => scalar,
    };
    Spanned::new(span, value)
}

fn merge<'i>(into: &mut DeTable<'i>, from: DeTable<'i>) {
    for (key, value) in from {
        match into.get_mut(&key) {
            Some(held) => combine(held, value),
            None => drop(into.insert(key, value)),
        }
    }
}

fn combine<'i>(held: &mut Spanned<DeValue<'i>>, new: Spanned<DeValue<'i>>) {
    let span = new.span();
    match (held.get_mut(), new.into_inner()) {
        (DeValue::Table(held), DeValue::Table(new)) => merge(held, new),
        (DeValue::Array(held), DeValue::Array(new)) if are_tables(held) && are_tables(&new) => {
            for entry in new {
                let namesake = held
                    .iter_mut()
                    .find(|known| name(known).is_some_and(|known| name(&entry) == Some(known)));
                match namesake {
                    Some(known) => combine(known, entry),
                    None => held.push(entry),
                }
            }
        }
        (_, new) => *held = Spanned::new(span, new),
    }
}

/// Whether it is what `[[…]]` makes.
fn are_tables(array: &DeArray<'_>) -> bool {
    !array.is_empty() && array.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_)))
}

fn name<'a>(entry: &'a Spanned<DeValue<'_>>) -> Option<&'a str> {
    let DeValue::Table(table) = entry.get_ref() else { return None };
    match table.get("name")?.get_ref() {
        DeValue::String(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "[listen]\naddress = \"127.0.0.1:8080\"\nworkers = 2\n\
                        [[api]]\nname = \"shop\"\nspec = \"shop.yaml\"\nupstream = \"http://a:1\"\n\
                        [clients]\ntrusted_proxies = [\"10.0.0.0/8\"]\n";

    fn taken(pieces: &[&str]) -> Result<ConfigFile, String> {
        let piece = |(number, text): (usize, &&str)| Piece {
            path: format!("{number}.toml").into(),
            text: (*text).to_owned(),
        };
        let pieces: Vec<_> = pieces.iter().enumerate().map(piece).collect();
        taken_together(&pieces).map_err(|error| error.to_string())
    }

    #[test]
    fn later_files_say_what_counts() {
        let file = taken(&[
            MAIN,
            "[listen]\nworkers = 3\n[limits]\nhead_fields = 7\n",
            "[limits]\nhead_octets = 9\n[clients]\ntrusted_proxies = []\n",
            "[limits]\nhead_fields = 8\n",
        ])
        .unwrap();
        assert_eq!(file.listen.workers, Some(3));
        assert_eq!(file.listen.address.port(), 8080);
        assert_eq!((file.limits.head_fields, file.limits.head_octets), (8, 9));
        // A plain list is one value.
        assert_eq!(file.clients.trusted_proxies, []);
    }

    #[test]
    fn entries_are_amended_by_name_or_added() {
        let feed = |name: &str| format!("[[feed]]\nname = \"{name}\"\npath = \"{name}.txt\"\n");
        let amended = "[[feed]]\nname = \"a\"\naction = \"observe\"\n\
                       [[api]]\nname = \"shop\"\nrequests = \"observe\"\n";
        let file = taken(&[MAIN, &feed("a"), &feed("b"), amended]).unwrap();
        let names: Vec<_> = file.feed.iter().map(|feed| feed.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(file.feed[0].path.as_deref(), Some(Path::new("a.txt")));
        assert_eq!(file.feed[0].action, crate::control::config::FeedAction::Observe);
        assert_eq!(file.api.len(), 1);
        assert_eq!(file.api[0].spec, Path::new("shop.yaml"));
        let other = "[[api]]\nname = \"other\"\nspec = \"o.yaml\"\nupstream = \"http://b:1\"\n";
        assert_eq!(taken(&[MAIN, other]).unwrap().api.len(), 2);
    }

    #[test]
    fn errors_have_their_place() {
        for (pieces, expected) in [
            (vec!["[listen]\naddress = 7\n", ""], "0.toml:2: "),
            (vec![MAIN, "[limits]\n\nhead_field = 7\n"], "1.toml:3: unknown field `head_field`"),
            (vec![MAIN, "\n\n", "[limits]\nhead_fields = \"7\"\n"], "2.toml:2: invalid type"),
            (vec![MAIN, "[limits]\nhead_fields = 7", "x = \n", ""], "2.toml:1: "),
            (vec![MAIN, "[limits\n"], "1.toml:1: "),
            (vec![MAIN, "[[api]]\nname = \"b\"\n"], "1.toml:1: missing field"),
            (vec![MAIN, "listen = 3\n"], "1.toml:1: "),
            (vec![MAIN, "[limits]\nidle_timeout = \"5\"\n"], "1.toml:2: "),
        ] {
            let error = taken(&pieces).unwrap_err();
            assert!(error.starts_with(expected), "{pieces:?}: {error}");
        }
    }

    #[test]
    fn paths_lead_to_the_file_or_to_the_credentials() {
        let credentials = Some(Path::new("/run/credentials/firewall.service"));
        for (path, credentials, expected) in [
            ("a.yaml", credentials, "/etc/firewall/a.yaml"),
            ("/a.yaml", credentials, "/a.yaml"),
            ("%d/a.pem", credentials, "/run/credentials/firewall.service/a.pem"),
            ("%d/b/a.pem", credentials, "/run/credentials/firewall.service/b/a.pem"),
            ("%da.pem", credentials, "/etc/firewall/%da.pem"),
            ("b/%d/a.pem", credentials, "/etc/firewall/b/%d/a.pem"),
            // No such file, and the message says so.
            ("%d/a.pem", None, "/etc/firewall/%d/a.pem"),
        ] {
            let found = located(Path::new("/etc/firewall"), credentials, Path::new(path));
            assert_eq!(found, Path::new(expected), "{path}");
        }
    }

    #[test]
    fn drop_ins_are_found_by_name() {
        let root = std::env::temp_dir().join(format!("firewall-dropins-{}", std::process::id()));
        let config = root.join("firewall.toml");
        let dropins = directory(&config);
        assert_eq!(dropins, root.join("firewall.d"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(&config, MAIN).unwrap();
        assert_eq!(read(&config).unwrap().read, [config.clone(), dropins.clone()]);
        std::fs::create_dir(&dropins).unwrap();
        for name in ["20-b.toml", "10-a.toml", "9.toml", ".hidden.toml", "a.toml~", "README"] {
            let text = format!("[limits]\nhead_fields = {}\n", name.len());
            std::fs::write(dropins.join(name), text).unwrap();
        }
        let configuration = read(&config).unwrap();
        let found: Vec<_> = configuration.read[2..]
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(found, ["10-a.toml", "20-b.toml", "9.toml"]);
        assert_eq!(configuration.file.limits.head_fields, "9.toml".len());
        assert_eq!(configuration.file.api[0].spec, root.join("shop.yaml"));
        for number in 0..DROPINS_MAX - 3 {
            std::fs::write(dropins.join(format!("many-{number}.toml")), "").unwrap();
        }
        assert_eq!(read(&config).unwrap().read.len(), DROPINS_MAX + 2);
        std::fs::write(dropins.join("one-more.toml"), "").unwrap();
        let error = read(&config).unwrap_err().to_string();
        assert!(error.ends_with("expected at most 256 drop-ins, found 257"), "{error}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
