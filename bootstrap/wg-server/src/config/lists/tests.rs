use super::*;
use crate::config::Config;

const LAB: &str = include_str!("../../../tests/parent.toml");
const BLIND: &str = include_str!("../../../../lab/config/blind/gateway.toml");
const SAMPLE: &str = include_str!("../../../../../config/parent/parent.toml");
const IMAGE: &str = "/etc/wg-server/measurements.json";

fn with(text: &str, lists: &str) -> Result<Vec<List>> {
    Ok(Config::parse(&text.replacen("[dns]", &format!("{lists}\n[dns]"), 1))?.egress.lists)
}

fn list(keys: &str) -> String {
    format!("[[egress.lists]]\n{keys}\n")
}

#[test]
fn without_tables_there_is_no_list_and_the_sample_shows_one() {
    assert!(Config::parse(SAMPLE).unwrap().egress.lists.is_empty());
    let commented: String = SAMPLE
        .lines()
        .skip_while(|line| *line != "# [[egress.lists]]")
        .take_while(|line| line.starts_with('#'))
        .filter(|line| line.starts_with("# [[") || line.contains(" = "))
        .map(|line| format!("{}\n", &line[2..]))
        .collect();
    let lists = with(SAMPLE, &commented).unwrap();
    assert_eq!(lists[0].name.to_string(), "billing");
    assert_eq!((lists[0].names.len(), lists[0].destinations.len(), lists[0].cids.len()), (1, 1, 2), "{commented}");
    assert_eq!(lists[0].measurements_paths, [PathBuf::from(IMAGE)]);
}

#[test]
fn a_list_is_for_enclaves_that_have_one_of_its_cids_and_one_of_its_images() {
    let lists = [
        list("name = \"cid\"\nnames = [\"a.example\"]\ncids = [16, 17]"),
        list(&format!("name = \"image\"\nnames = [\"a.example\"]\nmeasurements_paths = [\"{IMAGE}\"]")),
        list(&format!("name = \"both\"\nnames = [\"a.example\"]\ncids = [16]\nmeasurements_paths = [\"{IMAGE}\"]")),
    ];
    let lists = with(LAB, &lists.concat()).unwrap();
    let of = |cid, images: &[&str]| {
        let of = lists.iter().filter(|list| list.is_for(Cid(cid), images));
        of.map(|list| list.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(16, &[IMAGE]), ["cid", "image", "both"]);
    assert_eq!(of(17, &[IMAGE]), ["cid", "image"]);
    assert_eq!(of(18, &["/other.json", IMAGE]), ["image"]);
    assert_eq!(of(16, &["/other.json"]), ["cid"]);
    assert_eq!(of(18, &[]), [""; 0], "an enclave whose image is not known");
    let shown: Vec<String> = lists.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "the list cid has 1 names and 0 destinations for CID 16, 17",
            "the list image has 1 names and 0 destinations for the image /etc/wg-server/measurements.json",
            "the list both has 1 names and 0 destinations for CID 16 with the image /etc/wg-server/measurements.json",
        ]
    );
}

#[test]
fn a_list_that_cannot_be_meant_is_refused_with_what_is_expected() {
    let right = "name = \"a\"\nnames = [\"a.example\"]\ncids = [16]";
    assert_eq!(with(LAB, &list(right)).unwrap().len(), 1);
    for (from, to, expected) in [
        ("\"a\"", "\"A\"", "egress.lists.name: \"A\", expected 1 to 32 lower-case letters"),
        ("\"a\"", "\"\"", "egress.lists.name: \"\", expected 1 to 32"),
        ("\"a\"", "\"a b\"", "egress.lists.name: \"a b\", expected 1 to 32"),
        ("[16]", "[]", "egress.lists.cids: the list a is for no enclave, expected cids = [16], or measurements_paths"),
        (
            "[16]",
            "[3]",
            "egress.lists.cids: 3 in the list a is not an enclave's CID, expected 4 to 4294967294, like 16",
        ),
        ("[16]", "[4294967295]", "egress.lists.cids: 4294967295 in the list a is not an enclave's CID"),
        ("[16]", "[4294967296]", "egress.lists.cids: [4294967296], expected a list of numbers such as [16]"),
        ("[\"a.example\"]", "[]", "egress.lists.names: the list a allows nothing, expected names like"),
        ("a.example", "a..b", "egress.lists.names: the list a: \"a..b\" has an empty label, expected a name like"),
        ("a.example", "*", "egress.lists.names: the list a: `*` would allow every name"),
        (
            "[\"a.example\"]",
            "[\"a.example\", \"A.example\"]",
            "egress.lists.names: the list a: \"A.example\" is there twice, expected each name once",
        ),
        (
            "names = [\"a.example\"]",
            "destinations = [\"a.example:443\"]",
            "egress.lists.destinations: \"a.example:443\": a name: its addresses open with its DNS answers; expected a.example in \
             egress.lists.names",
        ),
        (
            "cids",
            "cid",
            "unknown field `cid`, expected one of `name`, `names`, `destinations`, `cids`, `measurements_paths`",
        ),
        (
            "cids = [16]",
            "measurements_paths = [\"/other.json\"]",
            "egress.lists.measurements_paths: the list a is for /other.json, expected a file of attestation.measurements_paths: \
             \"/etc/wg-server/measurements.json\"",
        ),
        (
            "cids = [16]",
            "measurements_paths = [\"m.json\"]",
            "egress.lists.measurements_paths: \"m.json\", expected an absolute",
        ),
    ] {
        assert!(right.contains(from), "{from}");
        let error = format!("{:#}", with(LAB, &list(&right.replacen(from, to, 1))).unwrap_err());
        assert!(error.contains(expected), "{to}: {error}");
    }
    let error = |text: &str, lists: &str| format!("{:#}", with(text, lists).unwrap_err());
    let twice = error(LAB, &list(right).repeat(2));
    assert_eq!(twice, "egress.lists.name: two lists have the name \"a\", expected each name once");
    assert_eq!(error(LAB, &list(right).repeat(17)), "egress.lists: 17 lists, expected at most 16");
    let many: Vec<String> = (0..200).map(|at| format!("\"10.0.0.{at}\"")).collect();
    let many = [right, &format!("destinations = [{}]", many.join(","))].join("\n");
    let many = [list(&many), list(&many.replacen("\"a\"", "\"b\"", 1))].concat();
    assert!(error(LAB, &many).contains("egress.lists.destinations: 403 in all lists, expected at most 256"), "{many}");
    let names: Vec<String> = (0..6000).map(|at| format!("\"n{at}.example\"")).collect();
    let names = right.replacen("\"a.example\"", &names.join(","), 1);
    let names = [list(&names), list(&names.replacen("\"a\"", "\"b\"", 1).replace(".example", ".test"))].concat();
    assert_eq!(error(LAB, &names), "egress.lists.names: 12000 in all lists, expected at most 10000");
}

#[test]
fn a_gateway_for_other_hosts_does_not_trust_their_cids() {
    let by_cid = list("name = \"a\"\nnames = [\"a.example\"]\ncids = [16]");
    let error = format!("{:#}", with(BLIND, &by_cid).unwrap_err());
    assert!(
        error.contains("egress.lists.cids: the list a has CIDs, but with [remote] every parent chooses those"),
        "{error}"
    );
    let image = Config::parse(BLIND).unwrap().attestation.measurements_paths()[0].display().to_string();
    let by_image = by_cid.replacen("cids = [16]", &format!("measurements_paths = [\"{image}\"]"), 1);
    assert_eq!(with(BLIND, &by_image).unwrap().len(), 1);
}
