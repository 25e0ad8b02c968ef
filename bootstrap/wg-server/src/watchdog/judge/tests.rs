use super::*;
use crate::config::Config;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A watchdog with the default settings, its clock, and what it did.
struct Case {
    judge: Judge,
    settings: Watchdog,
    now: Duration,
    signs: Signs,
    steps: Vec<(u64, Step)>,
}

fn silent() -> Ready {
    Ready::Silent("timed out".to_owned())
}

impl Case {
    fn new() -> Self {
        let settings = Config::parse(include_str!("../../../tests/parent.toml")).unwrap().watchdog;
        let signs = Signs {
            life: "a".to_owned(),
            ends: 0,
            has_control: true,
            has_data: true,
            is_peer: true,
            handshake: Some(0),
            ready: Ready::Answered(200),
        };
        // A host that has been up for a while.
        Self { judge: Judge::default(), settings, now: 10 * MINUTE, signs, steps: Vec::new() }
    }

    /// Looks every 10 s; a session that lives has a handshake every two minutes.
    fn watch_for(&mut self, time: Duration, mut look: impl FnMut(&Self) -> Look) -> &mut Self {
        for _ in 0..time.as_secs() / 10 {
            let look = look(self);
            let step = self.judge.judge(look, &self.settings, self.now);
            if step != Step::Nothing {
                self.steps.push((self.now.as_secs() - 600, step));
            }
            self.now += 10 * SECOND;
        }
        self
    }

    fn signs_for(&mut self, time: Duration, change: impl Fn(&mut Signs)) -> &mut Self {
        self.watch_for(time, |case| {
            let mut signs = Signs { handshake: Some(case.now.as_secs() / 120), ..case.signs.clone() };
            change(&mut signs);
            Look::Signs(signs)
        })
    }

    fn excused_for(&mut self, time: Duration, excuse: &Excuse) -> &mut Self {
        self.watch_for(time, |_| Look::Excused(excuse.clone()))
    }

    /// Another life of the unit.
    fn life(&mut self, id: &str, ends: u32) -> &mut Self {
        (self.signs.life, self.signs.ends) = (id.to_owned(), ends);
        self
    }

    fn steps(&mut self) -> Vec<(u64, Step)> {
        std::mem::take(&mut self.steps)
    }
}

#[test]
fn an_enclave_that_works_is_left_alone() {
    let mut case = Case::new();
    assert_eq!(case.signs_for(120 * MINUTE, |_| {}).steps(), []);
    assert_eq!(case.judge.suspicion(), None);
}

#[test]
fn each_thing_that_the_tunnel_lacks_leads_to_a_restart_after_its_time() {
    for (fault, change) in [
        (Fault::Control, (|signs| (signs.has_control, signs.is_peer) = (false, false)) as fn(&mut Signs)),
        (Fault::Control, |signs| signs.has_control = false),
        (Fault::Proof, |signs| signs.is_peer = false),
        (Fault::Data, |signs| signs.has_data = false),
    ] {
        let mut case = Case::new();
        case.signs_for(MINUTE, |_| {});
        assert_eq!(case.signs_for(2 * MINUTE, change).steps(), [(120, Step::Restart(fault))], "{fault:?}");
    }
    let mut case = Case::new();
    // The last handshake is first seen at 0.
    assert_eq!(
        case.signs_for(5 * MINUTE, |signs| signs.handshake = Some(7)).steps()[..1],
        [(180, Step::Restart(Fault::Handshake))]
    );
}

#[test]
fn what_comes_back_in_time_was_nothing() {
    let mut case = Case::new();
    for _ in 0..10 {
        case.signs_for(MINUTE, |signs| signs.has_data = false).signs_for(10 * SECOND, |_| {});
        case.signs_for(20 * SECOND, |signs| signs.ready = silent()).signs_for(10 * SECOND, |_| {});
    }
    assert_eq!(case.steps(), []);
}

#[test]
fn an_enclave_that_cannot_prove_itself_has_one_time_for_all_that_it_loses() {
    let mut case = Case::new();
    let mut turn = false;
    // Its control stream comes and goes.
    case.watch_for(90 * SECOND, |case| {
        turn = !turn;
        Look::Signs(Signs { has_control: turn, is_peer: false, ..case.signs.clone() })
    });
    assert_eq!(case.steps().len(), 1);
}

#[test]
fn a_signer_that_does_not_answer_three_times_leads_to_a_restart_and_one_that_is_not_ready_does_not() {
    let mut case = Case::new();
    case.signs_for(MINUTE, |_| {});
    assert_eq!(
        case.signs_for(30 * SECOND, |signs| signs.ready = silent()).steps(),
        [(80, Step::Restart(Fault::Ready))]
    );
    let mut case = Case::new();
    // KMS is away.
    assert_eq!(case.signs_for(120 * MINUTE, |signs| signs.ready = Ready::Answered(503)).steps(), []);
    assert_eq!(case.judge.ready, Some(Ready::Answered(503)));
}

#[test]
fn an_enclave_is_not_restarted_for_what_a_restart_does_not_mend() {
    for excuse in [
        Excuse::Stopped("inactive".to_owned()),
        Excuse::Unknown("wg-server does not run".to_owned()),
        Excuse::Host("nft: no such file".to_owned()),
        Excuse::Refused("PCR0".to_owned()),
    ] {
        let mut case = Case::new();
        // It begins just before a restart would be due, and what was seen before counts no more.
        case.signs_for(MINUTE, |signs| signs.has_control = false).excused_for(120 * MINUTE, &excuse);
        case.signs_for(MINUTE, |signs| signs.has_control = false);
        assert_eq!(case.steps(), [], "{excuse}");
        assert_eq!(case.excused_for(SECOND * 10, &excuse).judge.excuse, Some(excuse));
    }
}

#[test]
fn restarts_come_at_once_then_with_longer_pauses_and_end_with_the_fifth() {
    let mut case = Case::new();
    let mut life = 0;
    for _ in 0..360 {
        case.signs_for(10 * SECOND, |signs| (signs.has_control, signs.is_peer) = (false, false));
        if case.steps.last().is_some_and(|(_, step)| matches!(step, Step::Restart(_))) && life < case.steps.len() {
            life += 1;
            case.life(&format!("life {life}"), 0);
        }
    }
    let fault = Fault::Control;
    let restart = |at| (at, Step::Restart(fault));
    let [first, second, third, fourth, fifth] = [60, 130, 250, 490, 970];
    let expected = [first, second, third, fourth, fifth].map(restart);
    let steps = case.steps();
    assert_eq!(steps[..5], expected);
    // It gives up once, when the enclave has had its time after the fifth.
    assert_eq!(steps[5..], [(1040, Step::GiveUp(fault))]);
    assert!(case.judge.gave_up.is_some());
}

#[test]
fn after_it_gave_up_it_starts_over_when_somebody_restarts_the_enclave_or_it_works_again() {
    let fault = |signs: &mut Signs| signs.has_control = false;
    let given_up = || {
        let mut case = Case::new();
        case.settings.restarts = 1;
        case.signs_for(3 * MINUTE, fault).life("b", 0).signs_for(3 * MINUTE, fault);
        assert_eq!(case.steps().len(), 2);
        case
    };
    let mut case = given_up();
    assert_eq!(case.signs_for(30 * MINUTE, fault).steps(), []);
    case.life("c", 0).signs_for(2 * MINUTE, fault);
    assert!(matches!(case.steps()[..], [(_, Step::Restart(_))]));

    let mut case = given_up();
    case.signs_for(10 * SECOND, |_| {});
    assert_eq!(case.judge.gave_up, None);
    // Restarts of the last hour still count.
    case.signs_for(2 * MINUTE, fault);
    assert!(matches!(case.steps()[..], [(_, Step::GiveUp(_))]));
}

#[test]
fn a_restart_of_long_ago_does_not_count() {
    let mut case = Case::new();
    let fault = |signs: &mut Signs| signs.has_control = false;
    for life in 0..10 {
        case.life(&life.to_string(), 0).signs_for(70 * SECOND, fault).life(&format!("{life} again"), 0);
        case.signs_for(61 * MINUTE, |_| {});
        // Each comes at once.
        assert!(matches!(case.steps()[..], [(_, Step::Restart(_))]), "{life}");
    }
}

#[test]
fn an_enclave_that_ends_again_and_again_is_given_up_and_one_that_works_in_between_is_not() {
    let ending = |case: &mut Case, ends| {
        case.excused_for(20 * SECOND, &Excuse::Restarting(ends)).life(&format!("life {ends}"), ends + 1);
        case.signs_for(20 * SECOND, |signs| (signs.has_control, signs.is_peer) = (false, false));
    };
    let mut case = Case::new();
    case.signs_for(MINUTE, |_| {});
    (0..20).for_each(|ends| ending(&mut case, ends));
    assert!(matches!(case.steps()[..], [(_, Step::GiveUp(Fault::Ends))]), "{:?}", case.judge);

    let mut case = Case::new();
    case.signs_for(MINUTE, |_| {});
    for ends in 0..9 {
        ending(&mut case, ends);
        case.signs_for(MINUTE, |_| {});
    }
    assert_eq!(case.steps(), []);
    assert_eq!(case.judge.ends(), 9);
}

#[test]
fn an_enclave_that_an_operator_stops_while_its_restart_is_due_is_not_started() {
    let mut case = Case::new();
    case.signs_for(MINUTE, |signs| signs.has_control = false);
    case.excused_for(60 * MINUTE, &Excuse::Stopped("inactive".to_owned()));
    assert_eq!(case.steps(), []);
    // And when it starts again, it has its time.
    case.life("b", 0).signs_for(MINUTE, |signs| signs.has_control = false);
    assert_eq!(case.steps(), []);
}

#[test]
fn a_new_life_has_its_time_whoever_began_it() {
    let mut case = Case::new();
    let boots = |signs: &mut Signs| (signs.has_control, signs.is_peer, signs.handshake) = (false, false, None);
    for life in 0..20 {
        case.life(&life.to_string(), 0).signs_for(50 * SECOND, boots);
    }
    assert_eq!(case.steps(), []);
}

#[test]
fn what_the_watchdog_knows_survives_its_own_restart() {
    let mut case = Case::new();
    case.signs_for(MINUTE, |signs| signs.has_control = false);
    let json = serde_json::to_string(&case.judge).unwrap();
    case.judge = serde_json::from_str(&json).unwrap();
    case.signs_for(10 * SECOND, |signs| signs.has_control = false);
    assert!(matches!(case.steps()[..], [(60, Step::Restart(Fault::Control))]));
}
