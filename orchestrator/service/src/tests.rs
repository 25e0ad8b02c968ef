use super::*;

const GOOD: &str = r#"
[[services]]
name = "hello"
program = "hello"
arguments = ["--verbose"]
environment = { RUST_LOG = "info" }
memory_mib = 16
listen = [80, 8080]
restart = "on-failure"

[[services]]
name = "agent"
program = "agent"
"#;

#[derive(Deserialize)]
struct File {
    services: Vec<ServiceTable>,
}

fn parse(text: &str) -> Result<Vec<Service>> {
    let file: File = toml::from_str(text)?;
    check(file.services, &[(443, "signer")])
}

fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the file");
    format!("{:#}", parse(&GOOD.replacen(from, to, 1)).unwrap_err())
}

#[test]
fn the_good_tables_are_read() {
    let services = parse(GOOD).unwrap();
    let [hello, agent] = &services[..] else { panic!("{services:?}") };
    assert_eq!((hello.memory, &hello.listen[..]), (16 << 20, &[80, 8080][..]));
    assert_eq!((hello.restart, hello.environment["RUST_LOG"].as_str()), (Restart::OnFailure, "info"));
    assert_eq!((agent.memory, agent.restart, agent.vsock), (64 << 20, Restart::Always, false));
    assert_eq!((hello.user, agent.user), (1100, 1101));
    assert_eq!(programs(GOOD).unwrap(), ["hello", "agent"]);
    assert_eq!(programs("[tunnel]\nmtu = 1\n").unwrap(), [""; 0]);
}

#[test]
fn what_is_wrong_is_named_with_the_service_and_the_key() {
    for (from, to, expected) in [
        ("name = \"hello\"", "name = \"Hello\"", "services: Hello: name: expected"),
        ("name = \"hello\"", "name = \"-hello\"", "services: -hello: name: expected"),
        ("name = \"hello\"", "name = \"a-name-of-17-bytes\"", "name: expected 1 to 16"),
        ("name = \"hello\"", "name = \"signer\"", "services: signer: name: reserved for a process"),
        ("name = \"hello\"", "name = \"agent\"", "services: agent: name: used twice"),
        ("program = \"hello\"", "program = \"../hello\"", "services: hello: program: `../hello`"),
        ("program = \"hello\"", "program = \"/init\"", "program: `/init`"),
        ("program = \"hello\"", "program = \"etc\"", "program: expected a name other"),
        ("\"--verbose\"", "\"a\\u0000b\"", "services: hello: arguments: `a\\0b`"),
        ("RUST_LOG", "\"RUST=LOG\"", "services: hello: environment: `RUST=LOG`"),
        ("\"info\"", "\"a\\u0000b\"", "environment: RUST_LOG: "),
        ("memory_mib = 16", "memory_mib = 0", "services: hello: memory_mib: 0 is out of range"),
        ("[80, 8080]", "[0]", "services: hello: listen: 0 is not a port"),
        ("[80, 8080]", "[80, 80]", "listen: 80 is listed twice"),
        ("[80, 8080]", "[443]", "services: hello: listen: port 443 is used by signer"),
        (
            "program = \"agent\"",
            "program = \"agent\"\nlisten = [80]",
            "services: agent: listen: port 80 is used by hello",
        ),
        ("\"on-failure\"", "\"sometimes\"", "unknown variant `sometimes`"),
        ("memory_mib = 16", "memory = 16", "unknown field `memory`"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(expected), "{to}: {error}");
    }
    let many = "[[services]]\nname = \"a\"\nprogram = \"a\"\n".repeat(MAX_SERVICES + 1);
    assert!(parse(&many).unwrap_err().to_string().contains("expected at most 8"));
}

#[test]
fn a_file_that_would_not_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let service = parse(GOOD).unwrap().remove(0);
    let path = dir.path().join("hello");
    let error = || format!("{:#}", service.check_file(dir.path()).unwrap_err());
    assert!(error().starts_with("services: hello: program: ") && error().contains("No such file"), "{}", error());
    fs::write(&path, sample_program(false)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(error().contains("not executable (mode 0644), expected mode 0755"), "{}", error());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    service.check_file(dir.path()).unwrap();
    fs::write(&path, sample_program(true)).unwrap();
    assert!(error().contains("dynamic loader"), "{}", error());
}
