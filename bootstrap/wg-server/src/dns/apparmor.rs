//! AppArmor's profile for named, as Debian and Ubuntu ship it. It allows only BIND's own folders.

use std::fs;
use std::path::Path;

const ENABLED_PATH: &str = "/sys/module/apparmor/parameters/enabled";
/// Exists if profiles can be loaded.
const SECURITY_DIR: &str = "/sys/kernel/security/apparmor";
/// The profiles in the kernel. Only root can read it.
const PROFILES_PATH: &str = "/sys/kernel/security/apparmor/profiles";
const PROFILE_DIR: &str = "/etc/apparmor.d";

/// Reports, with the fix, that the profile is enforced and does not allow `dir`.
pub(crate) fn objection(named_path: &Path, dir: &Path, query_log_path: &Path) -> Option<String> {
    let is_enabled = fs::read_to_string(ENABLED_PATH).is_ok_and(|text| text.trim() == "Y");
    let profile_name = profile_file_name(named_path)?;
    let profile_dir = Path::new(PROFILE_DIR);
    let is_enforced = match fs::read_to_string(PROFILES_PATH) {
        Ok(profiles) => enforces(&profiles, named_path),
        // Without root: assume that the profile is loaded if its file exists and is not disabled.
        Err(_) => {
            Path::new(SECURITY_DIR).exists()
                && profile_dir.join(&profile_name).exists()
                && !profile_dir.join("disable").join(&profile_name).exists()
                && !profile_dir.join("force-complain").join(&profile_name).exists()
        }
    };
    let local_path = profile_dir.join("local").join(&profile_name);
    let local = fs::read_to_string(local_path).unwrap_or_default();
    let is_told =
        local.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(&*dir.to_string_lossy()));
    (is_enabled && is_enforced && !is_told).then(|| objection_text(&profile_name, dir, query_log_path))
}

/// `/usr/sbin/named` is confined by the file `usr.sbin.named`.
fn profile_file_name(program: &Path) -> Option<String> {
    Some(program.to_str()?.trim_start_matches('/').replace('/', "."))
}

/// A line of the kernel's list is the name of a profile, which is a word or the program's path, and its mode.
fn enforces(profiles: &str, named_path: &Path) -> bool {
    let program = named_path.file_name();
    profiles
        .lines()
        .filter_map(|line| line.strip_suffix(" (enforce)"))
        .any(|name| Path::new(name) == named_path || (!name.contains('/') && Some(name.as_ref()) == program))
}

fn objection_text(profile_name: &str, dir: &Path, query_log_path: &Path) -> String {
    format!(
        "AppArmor's profile of named ({PROFILE_DIR}/{profile_name}) is enforced and does not allow wg-server's files, so named \
         cannot open them; expected two lines in {PROFILE_DIR}/local/{profile_name}: `{dir}/** rwk,` and `{log}* rw,`. Then run: \
         apparmor_parser -r {PROFILE_DIR}/{profile_name}",
        dir = dir.display(),
        log = query_log_path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_found_under_either_of_its_names_if_it_is_enforced() {
        let named = Path::new("/usr/sbin/named");
        assert!(enforces("/usr/bin/man (enforce)\nnamed (enforce)\n", named));
        assert!(enforces("/usr/sbin/named (enforce)\n", named));
        assert!(!enforces("named (complain)\n/usr/bin/named (enforce)\nunnamed (enforce)\n", named));
        assert_eq!(profile_file_name(named).unwrap(), "usr.sbin.named");
    }

    #[test]
    fn the_objection_names_apparmor_and_the_lines_that_are_missing() {
        let text = objection_text("usr.sbin.named", Path::new("/run/wg-server/named"), Path::new("/var/log/q.log"));
        for part in [
            "AppArmor",
            "/etc/apparmor.d/local/usr.sbin.named",
            "`/run/wg-server/named/** rwk,`",
            "`/var/log/q.log* rw,`",
            "apparmor_parser -r /etc/apparmor.d/usr.sbin.named",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
