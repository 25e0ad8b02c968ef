use super::*;

fn read(chain: &str, table: &str) -> Result<BTreeMap<u64, Upstream>> {
    let table: UpstreamTable = toml::from_str(table)?;
    check("signer.upstream", [(chain.to_owned(), table)].into(), &[1, 8453].into())
}

fn refused(chain: &str, table: &str) -> String {
    format!("{:#}", read(chain, table).unwrap_err())
}

#[test]
fn an_upstream_reads_and_is_known_by_a_public_authority_unless_it_is_said() {
    let upstreams = read("8453", r#"url = "https://base.example/v1/key""#).unwrap();
    let upstream = &upstreams[&8453];
    assert!(upstream.identity.is_none() && upstream.methods.len() == READ_METHODS.len());
    let pinned =
        format!("url = \"https://base.example\"\nkey_sha256 = \"{}\"\nmethods = [\"eth_call\"]", "ab".repeat(32));
    let upstreams = read("1", &pinned).unwrap();
    assert!(matches!(upstreams[&1].identity, Some(HubIdentity::Key(_))));
    assert_eq!(upstreams[&1].methods, ["eth_call".to_owned()].into());
}

#[test]
fn each_error_names_the_key_and_what_is_expected() {
    let good = r#"url = "https://base.example""#;
    for chain in ["5", "01", "x", "+1", ""] {
        assert_eq!(
            refused(chain, good),
            format!("signer.upstream.{chain}: not a chain of the policy, expected one of its chain_ids")
        );
    }
    assert!(
        refused("1", r#"url = "http://base.example""#).starts_with("signer.upstream.1.url: not a node's URL, expected")
    );
    for (more, expected) in [
        ("methods = [\"eth_call\", \"eth_call\"]", "signer.upstream.1.methods: `eth_call` is written twice"),
        ("methods = [\"call\"]", "signer.upstream.1.methods: `call` is not a method, expected"),
        ("methods = [\"eth_call \"]", "signer.upstream.1.methods: `eth_call ` is not a method, expected"),
        (
            "methods = [\"eth_sendTransaction\"]",
            "signer.upstream.1.methods: `eth_sendTransaction`: the signer answers this itself",
        ),
        ("key_sha256 = \"ab\"", "signer.upstream.1.key_sha256: `ab`, expected 64 hex digits"),
        ("ca = \"x\"", "signer.upstream.1.ca: expected certificates as PEM"),
        ("x = 1", "unknown field `x`"),
    ] {
        let error = refused("1", &format!("{good}\n{more}"));
        assert!(error.contains(expected), "{error}");
    }
}
