//! The user that named runs as. It is not wg-server's user, so that named cannot read the gateway's private key.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::unistd::{Gid, Uid, User, chown, fchown, getegid, geteuid, setfsgid};

use super::named_conf::{self, GeneratedFile};

/// The users that Debian's and Amazon Linux's packages create.
const USUAL: [&str; 2] = ["bind", "named"];
const WRITE: u32 = 0o2;
const ENTER: u32 = 0o1;

/// A user of this host, and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// While this value lives, files that this thread creates belong to another group.
struct Group {
    /// `None`: it is this process's own group.
    former: Option<Gid>,
}

impl Account {
    /// The user of this name, or the one that BIND's package created. Refuses users that can read the private key.
    pub(crate) fn find(name: Option<&str>, forbidden: &[Uid]) -> Result<Self> {
        let user = match name {
            Some(name) => look_up(name)?.with_context(|| {
                format!("dns.user: this host has no user {name:?}; expected the user of BIND's package, like \"bind\"")
            })?,
            None => usual()?,
        };
        Self::new(user, forbidden)
    }

    fn new(user: User, forbidden: &[Uid]) -> Result<Self> {
        let User { name, uid, gid, .. } = user;
        ensure!(
            !uid.is_root() && gid.as_raw() != 0 && !forbidden.contains(&uid),
            "dns.user: {name} may read the gateway's private key; expected a user for named alone, like \"bind\""
        );
        Ok(Self { name, uid, gid })
    }

    /// Makes a program run as this user, with only what named needs.
    pub(super) fn confine(&self, command: &mut tokio::process::Command) {
        crate::sys::confine(command, self.uid, self.gid);
    }

    /// Creates the folder that named reads, with its working folder inside, and writes the files.
    pub(super) fn furnish(&self, dir: &Path, files: Vec<GeneratedFile>) -> Result<()> {
        self.let_in(dir)?;
        let _group = Group::enter(self.gid)?;
        self.make_dir(dir, 0o750)?;
        for GeneratedFile { name, text } in files {
            let path = dir.join(name);
            let doing = || format!("write {}", path.display());
            // Replaces the old file, whoever owns it.
            let new_path = dir.join(format!("{name}.new"));
            std::fs::write(&new_path, text).with_context(doing)?;
            give(&new_path, self.gid, 0o640).with_context(doing)?;
            std::fs::rename(&new_path, &path).with_context(doing)?;
        }
        self.make_dir(&dir.join(named_conf::WORK_DIR), 0o770)
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        let doing = || format!("make {} for the group of the user {}", path.display(), self.name);
        std::fs::create_dir_all(path).with_context(doing)?;
        give(path, self.gid, mode).with_context(doing)
    }

    /// The folder above may contain secrets: named may only pass through it.
    fn let_in(&self, dir: &Path) -> Result<()> {
        let Some(parent) = dir.parent() else { return Ok(()) };
        let metadata = std::fs::metadata(parent).with_context(|| format!("look at {}", parent.display()))?;
        if !self.has(&metadata, ENTER) && metadata.uid() == geteuid().as_raw() {
            let mode = metadata.permissions().mode() | ENTER;
            std::fs::set_permissions(parent, std::fs::Permissions::from_mode(mode))
                .with_context(|| format!("let the user {} enter {}", self.name, parent.display()))?;
        }
        self.ensure_enters(parent).context("runtime_dir")
    }

    /// Creates the folder of the query log if it is missing, and makes sure that named can write there.
    pub(super) fn furnish_log(&self, path: &Path) -> Result<()> {
        let dir = path.parent().context("expected a file in a folder")?;
        let is_new = !dir.exists();
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let look = || std::fs::metadata(dir).with_context(|| format!("look at {}", dir.display()));
        let metadata = look()?;
        // Root also owns folders that are not wg-server's.
        let is_ours = is_new || (metadata.uid() == geteuid().as_raw() && !geteuid().is_root());
        let _group = Group::enter(self.gid)?;
        if !self.has(&metadata, WRITE | ENTER) && is_ours {
            give(dir, self.gid, (metadata.permissions().mode() & 0o777) | 0o070)
                .with_context(|| format!("let the user {} write in {}", self.name, dir.display()))?;
        }
        ensure!(
            self.has(&look()?, WRITE | ENTER),
            "the user {name} cannot write in {dir}; expected a folder that wg-server owns; or run: \
             chgrp {name} {dir} && chmod g+w {dir}",
            name = self.name,
            dir = dir.display()
        );
        self.ensure_enters(dir)?;
        self.take_over(path)
    }

    /// The log may belong to wg-server: systemd gives the contents of `LogsDirectory=` to it at each start.
    fn take_over(&self, path: &Path) -> Result<()> {
        let doing = || format!("let the user {} write {}", self.name, path.display());
        // named may have replaced the file: follow no link, and do not block.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // named's user owns it and nobody else may read it.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error).with_context(doing),
        };
        let metadata = file.metadata().with_context(doing)?;
        ensure!(metadata.is_file() && metadata.nlink() == 1, "{}: expected a file with one name", doing());
        if self.has(&metadata, WRITE) {
            return Ok(());
        }
        ensure!(
            metadata.uid() == geteuid().as_raw(),
            "{}: its owner has the UID {}; expected {name}: chown {name}: {path}*",
            doing(),
            metadata.uid(),
            name = self.name,
            path = path.display()
        );
        fchown(&file, None, Some(self.gid)).with_context(doing)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o660)).with_context(doing)
    }

    /// Whether the file's mode gives this user these permissions. Does not read access control lists.
    fn has(&self, metadata: &Metadata, bits: u32) -> bool {
        let shift = if metadata.uid() == self.uid.as_raw() {
            6
        } else if metadata.gid() == self.gid.as_raw() {
            3
        } else {
            0
        };
        (metadata.mode() >> shift) & bits == bits
    }

    fn ensure_enters(&self, dir: &Path) -> Result<()> {
        for folder in dir.ancestors() {
            let metadata = std::fs::metadata(folder).with_context(|| format!("look at {}", folder.display()))?;
            ensure!(
                self.has(&metadata, ENTER),
                "the user {} cannot enter {}, which has mode {:04o}; expected a folder that every user may enter: chmod o+x {1}",
                self.name,
                folder.display(),
                metadata.mode() & 0o7777
            );
        }
        Ok(())
    }
}

impl Group {
    fn enter(gid: Gid) -> Result<Self> {
        // No system call: this process may lack the capability for it.
        if gid == getegid() {
            return Ok(Self { former: None });
        }
        let former = setfsgid(gid);
        // It reports no error. A second call returns the present group (setfsgid(2)).
        ensure!(setfsgid(gid) == gid, "make files of group {gid}: Operation not permitted; expected CAP_SETGID");
        Ok(Self { former: Some(former) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(former) = self.former {
            setfsgid(former);
        }
    }
}

/// An owner may give a file to its filesystem group.
fn give(path: &Path, gid: Gid, mode: u32) -> Result<()> {
    chown(path, None, Some(gid))?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn look_up(name: &str) -> Result<Option<User>> {
    User::from_name(name).with_context(|| format!("dns.user: look up the user {name:?}"))
}

fn usual() -> Result<User> {
    for name in USUAL {
        if let Some(user) = look_up(name)? {
            return Ok(user);
        }
    }
    anyhow::bail!(
        "dns.user: this host has no user \"bind\" or \"named\" for named; expected Debian's package bind9 or Amazon Linux's package \
         bind, or the name of another user"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: u32, gid: u32) -> User {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        User { name: name.to_owned(), uid, gid, ..User::from_uid(Uid::from_raw(0)).unwrap().unwrap() }
    }

    #[test]
    fn a_user_that_may_read_the_key_is_refused() {
        let forbidden = [Uid::from_raw(998), Uid::from_raw(997)];
        for (uid, gid) in [(0, 5), (5, 0), (998, 5), (997, 5)] {
            let error = Account::new(user("someone", uid, gid), &forbidden).unwrap_err().to_string();
            assert!(error.starts_with("dns.user: someone may read the gateway's private key; expected"), "{error}");
        }
        let account = Account::new(user("bind", 102, 105), &forbidden).unwrap();
        assert_eq!(account, Account { name: "bind".to_owned(), uid: Uid::from_raw(102), gid: Gid::from_raw(105) });
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let error = Account::find(Some("nobody-of-that-name"), &[geteuid()]).unwrap_err().to_string();
        assert!(error.starts_with("dns.user: this host has no user \"nobody-of-that-name\"; expected"), "{error}");
    }

    #[test]
    fn a_mode_says_who_may_do_what() {
        let dir = tempfile::tempdir().unwrap();
        let with = |mode| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            std::fs::metadata(dir.path()).unwrap()
        };
        let metadata = with(0o700);
        let account = |uid: u32, gid: u32| Account {
            name: "someone".to_owned(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
        };
        let (owner, member) = (account(metadata.uid(), u32::MAX), account(u32::MAX, metadata.gid()));
        let other = account(u32::MAX, u32::MAX);
        for (mode, expected) in
            [(0o700, [true, false, false]), (0o070, [false, true, false]), (0o007, [false, false, true])]
        {
            let metadata = with(mode);
            let may = [&owner, &member, &other].map(|account| account.has(&metadata, WRITE | ENTER));
            assert_eq!(may, expected, "{mode:o}");
        }
        with(0o700);
    }
}
