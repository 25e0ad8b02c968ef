use super::*;

#[derive(Deserialize)]
struct Tables {
    windows: Vec<WindowTable>,
}

fn read(window: &str) -> Result<Vec<Window>> {
    let tables: Tables = toml::from_str(&format!("[[windows]]\n{window}"))?;
    Window::read_all("signer.policy.windows", &tables.windows)
}

#[test]
fn a_window_is_of_ether_of_a_token_or_of_signatures() {
    let shown = |text: &str| read(text).unwrap()[0].to_string();
    assert_eq!(shown("period = \"24h\"\nmax_value = \"10 ether\""), "10 ether in 1day");
    assert_eq!(shown("period = \"90s\"\nmax_count = 100"), "100 signatures in 1m 30s");
    let token = "token = \"0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48\"\nmax = \"0.5\"\ndecimals = 6";
    let shown = shown(&format!("period = \"1h\"\n{token}"));
    assert_eq!(shown, "0.5 of token 0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48 in 1h");
}

#[test]
fn a_signature_adds_its_value_its_payments_or_one() {
    let token = Address([3; 20]);
    let payment = |token, amount: u128| Payment { token, amount: Uint::from(amount) };
    let payments = vec![payment(token, 5), payment(Address([4; 20]), 100), payment(token, 6)];
    let amounts = Amounts { value: Wei(7), payments };
    let part = |limit| Window { period: Duration::from_secs(1), limit }.part(&amounts);
    assert_eq!(part(Limit::Value(Wei(1))), Uint::from(7));
    assert_eq!(part(Limit::Count(1)), Uint::from(1));
    assert_eq!(part(Limit::Token { token, max: Uint::ZERO, decimals: 0 }), Uint::from(11));
    let huge = Amounts { payments: vec![payment(token, 5), Payment { token, amount: Uint::MAX }], ..amounts.clone() };
    let limit = Limit::Token { token, max: Uint::ZERO, decimals: 0 };
    assert_eq!(Window { period: Duration::from_secs(1), limit }.part(&huge), Uint::MAX);
}

#[test]
fn a_window_that_cannot_be_is_refused_with_its_key() {
    let token = "token = \"0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48\"";
    for (window, expected) in [
        ("period = \"0s\"\nmax_count = 1", ".period: expected a time from"),
        ("period = \"32days\"\nmax_count = 1", ".period: expected a time from"),
        ("period = \"1h\"", ": expected exactly one of max_value, max_count, and token with max"),
        ("period = \"1h\"\nmax_count = 1\nmax_value = \"1 ether\"", ": expected exactly one of"),
        ("period = \"1h\"\nmax_count = 0", ".max_count: 0 allows no signature, expected at least 1"),
        ("period = \"1h\"\nmax_value = \"1\"", ".max_value: `1`: expected a number and its unit"),
        ("period = \"1h\"\nmax = \"1\"\nmax_count = 1", ".max: needs token, expected both or neither"),
        ("period = \"1h\"\ndecimals = 1\nmax_count = 1", ".decimals: needs token, expected both or neither"),
        (&format!("period = \"1h\"\n{token}"), ".max: missing, expected an amount"),
        (&format!("period = \"1h\"\n{token}\nmax = \"0.5\""), ".max: `0.5`: finer than a unit"),
        (&format!("period = \"1h\"\n{token}\nmax = \"2\"\ndecimals = 77"), ".max: `2`: out of range"),
        (&format!("period = \"1h\"\n{token}\nmax = \"2\"\ndecimals = 78"), ".decimals: 78, expected 0 to 77"),
        ("period = \"1h\"\ntoken = \"0x01\"\nmax = \"1\"", ".token: `0x01`: expected 0x and 40 hex digits"),
    ] {
        let error = format!("{:#}", read(window).expect_err(window));
        assert!(error.starts_with(&format!("signer.policy.windows[0]{expected}")), "{window}: {error}");
    }
    assert!(
        Window::read_all("signer.policy.windows", &[])
            .unwrap_err()
            .to_string()
            .contains("an empty list limits nothing")
    );
    assert!(read("period = \"1h\"\nmax_counts = 1").unwrap_err().to_string().contains("unknown field `max_counts`"));
    assert!(read("max_count = 1").unwrap_err().to_string().contains("missing field `period`"));
}
