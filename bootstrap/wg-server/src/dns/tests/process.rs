//! named as a process: its user, its files, its life, and others in its place.

use super::*;

#[test]
fn named_is_a_user_that_cannot_read_the_private_key() {
    alone_with_users("dns::tests::process::inside_user");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_user() {
    let setup = setup("nxdomain");
    let account = account(&setup.config).unwrap();
    setup.run(async |_| {
        let pid = sh(PGREP).trim().to_owned();
        assert_eq!(sh(&format!("ps -o user= -p {pid}")).trim(), account.name);
        let status = sh(&format!("cat /proc/{pid}/status"));
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (uid, gid) = (account.uid, account.gid);
        assert_eq!(of("Uid:"), format!("{uid} {uid} {uid} {uid}"));
        assert_eq!(of("Gid:"), format!("{gid} {gid} {gid} {gid}"));
        assert_eq!(of("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(of(set), "0000000000000400", "{set} CAP_NET_BIND_SERVICE and no other");
        }
        assert_eq!(of("NoNewPrivs:"), "1");
        // As named: its own files, and neither the key nor the folder of leases.
        let dir = setup.dir.path().display();
        let as_named = |command: &str| {
            sh(&format!("setpriv --reuid={uid} --regid={gid} --clear-groups sh -c '{command}' 2>&1 || true"))
        };
        assert_eq!(as_named(&format!("head -c 2 {dir}/named/named.conf")), "//");
        assert!(as_named(&format!("cat {dir}/private.key")).contains("Permission denied"));
        assert!(as_named(&format!("touch {dir}/named/named.conf")).contains("Permission denied"));
        assert!(as_named(&format!("touch {dir}/named/other")).contains("Permission denied"));
        // Nobody else's eyes but theirs.
        let other =
            sh(&format!("setpriv --reuid=65534 --regid=65534 --clear-groups cat {dir}/named/named.conf 2>&1 || true"));
        assert!(other.contains("Permission denied"), "{other}");
        // wg-server looks one listed name up at the start.
        let asked = setup.log("log/query.log");
        assert!(asked.lines().all(|line| line.contains(" query: alias.example IN A")), "health questions: {asked}");
    });
    // A log that systemd gave to wg-server, or that an earlier version wrote, goes on.
    sh(&format!("chown root: {0}/log/query.log; chmod 600 {0}/log/query.log", setup.dir.path().display()));
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        assert!(setup.log("log/query.log").contains("query: aws.com IN A"), "{}", setup.log("log/query.log"));
    });
}

#[test]
fn a_link_in_the_place_of_the_query_log_is_not_followed() {
    alone_with_users("dns::tests::process::inside_link");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_link() {
    let dir = tempfile::tempdir().unwrap();
    sh(&format!("chmod 755 {0}; mkdir {0}/log; echo secret >{0}/key; chmod 600 {0}/key", dir.path().display()));
    let account = Account::find(None, &[nix::unistd::geteuid()]).unwrap();
    sh(&format!("chown {} {}/log", account.uid, dir.path().display()));
    for make in ["ln -s", "ln"] {
        sh(&format!("{make} {0}/key {0}/log/query.log", dir.path().display()));
        let error = format!("{:#}", account.furnish_log(&dir.path().join("log/query.log")).unwrap_err());
        assert!(error.contains("let the user") && error.contains("query.log"), "{make}: {error}");
        assert_eq!(sh(&format!("stat -c '%a %g' {}/key", dir.path().display())), "600 0\n");
        sh(&format!("rm {}/log/query.log", dir.path().display()));
    }
}

/// Debian's bind9: every address of the host, as the same user.
const OTHER_CONF: &str = r#"
options { directory "/tmp"; pid-file none; session-keyfile none; listen-on { any; }; listen-on-v6 { any; };
    recursion no; dnssec-validation no; allow-query { any; }; };
controls { };
"#;

fn other_name_server(setup: &Setup) -> KillOnDrop {
    let path = setup.dir.path().join("other.conf");
    std::fs::write(&path, OTHER_CONF).unwrap();
    sh(&format!("chmod 644 {}", path.display()));
    let mut other = StdCommand::new("/usr/sbin/named");
    KillOnDrop(other.args(["-f", "-u", "bind", "-c"]).arg(&path).spawn().unwrap())
}

#[test]
fn another_name_server_in_named_s_place_is_named_and_gets_no_questions() {
    alone_with_users("dns::tests::process::inside_other_name_server");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_other_name_server() {
    let setup = setup("nxdomain");
    let gate_is_closed = || sh("nft list tables").contains("table inet wg_server_dns");
    setup.run(async |named| {
        assert!(!gate_is_closed());
        let mut states = named.states();
        let guest = other_name_server(&setup);
        let state = states.wait_for(|state| state.phase == Phase::Restarting).await.unwrap().clone();
        let problem = state.problem.unwrap();
        assert!(problem.contains("has UDP port 53 of ") || problem.contains("has TCP port 53 of "), "{problem}");
        assert!(gate_is_closed(), "enclaves ask the other name server");
        // named stays away, and says who has its place.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let problem = named.state().problem.unwrap();
        assert!(problem.contains("named (process ") && problem.contains("systemctl disable --now named"), "{problem}");
        let refused = ensure_port_is_free(&setup.config).await.unwrap_err().to_string();
        assert!(refused.contains("expected the port to be free: stop"), "{refused}");
        assert!(gate_is_closed());
        drop(guest);
        states.wait_for(|state| state.phase == Phase::Running && state.problem.is_none()).await.unwrap();
        assert!(!gate_is_closed());
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
    });
}

#[test]
fn a_killed_named_is_started_again_and_ends_with_its_parent() {
    alone_with_users("dns::tests::process::inside_killed");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_killed() {
    let setup = setup("nxdomain");
    setup.run(async |named| {
        let pid = || sh(PGREP).trim().to_owned();
        let (first, mut state) = (pid(), named.states());
        let killed = Instant::now();
        sh(&format!("kill -KILL {first}"));
        state.wait_for(|state| state.phase != Phase::Running).await.unwrap();
        state.wait_for(|state| state.phase == Phase::Running).await.unwrap();
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        assert_ne!(pid(), first);
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
    });
    assert_eq!(sh(&format!("{PGREP} || true")), "", "stopped in order");
}

#[test]
fn named_lives_on_while_an_address_is_gone_and_listens_when_it_is_back() {
    alone_with_users("dns::tests::process::inside_addresses");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_addresses() {
    let setup = setup("nxdomain");
    setup.run(async |named| {
        let first = sh(PGREP);
        let listens = || !sh("ss -Hlnu src 203.0.113.1:53").is_empty();
        let until_listening = async |wanted: bool| {
            let end = Instant::now() + Duration::from_secs(10);
            while listens() != wanted {
                assert!(Instant::now() < end, "named listens: {}, not {wanted}", !wanted);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // All, as with the interface itself, and one alone.
        for addresses in [&["203.0.113.1/24", "fd3b:74ac:9d21::1/64"][..], &["203.0.113.1/24"]] {
            let each =
                |verb: &str| addresses.iter().for_each(|net| drop(sh(&format!("ip addr {verb} {net} dev lo nodad"))));
            each("del");
            until_listening(false).await;
            // As long as the probes need to give named up.
            tokio::time::sleep(Duration::from_secs(4)).await;
            // A named that misses what the kernel says of addresses.
            let deaf = setup.dir.path().join("named/named.conf");
            let conf = std::fs::read_to_string(&deaf).unwrap();
            std::fs::write(&deaf, conf.replacen("options {", "options { automatic-interface-scan no;", 1)).unwrap();
            sh(&format!("kill -HUP {}", first.trim()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            each("add");
            until_listening(true).await;
            std::fs::write(&deaf, conf).unwrap();
            sh(&format!("kill -HUP {}; ip addr replace 203.0.113.2/32 dev lo", first.trim()));
            assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        }
        assert_eq!(sh(PGREP), first, "named was ended for it");
        assert_eq!(named.state().phase, Phase::Running);
    });
}

#[test]
fn a_configuration_that_named_refuses_is_not_started() {
    alone_with_users("dns::tests::process::inside_refused_configuration");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_refused_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let conf_path = dir.path().join("named.conf");
    std::fs::write(&conf_path, "options { nonsense yes; };").unwrap();
    sh(&format!("chmod o+x {}", dir.path().display()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let account = Account::find(None, &[nix::unistd::geteuid()]).unwrap();
    let error =
        runtime.block_on(check(Path::new("/usr/sbin/named"), &conf_path, Some(&account))).unwrap_err().to_string();
    assert!(error.contains("unknown option 'nonsense'"), "{error}");
}
