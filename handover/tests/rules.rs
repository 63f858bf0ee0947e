//! What each side does at the turning points of a hand-over.
#![expect(clippy::panic, reason = "in a test a panic is the report")]

use mose_handover::destination::{self, Answer as Told, Destination, Request, Said};
use mose_handover::source::{Answer, Doubt, Effect, Event, Question, Source, Timer, Why};
use mose_handover::{SourceState, Written};
use mose_protocol::record::Outcome;

type Reason = &'static str;

fn relinquished() -> (Source<Reason>, Vec<Effect<Reason>>) {
    let (mut source, _) = Source::ordered(false);
    let events = [
        Event::Inspected(Ok(())),
        Event::Written(Written::OnDisk),
        Event::Ready(Ok(())),
        Event::Written(Written::OnDisk),
        Event::Dumped(Ok("d".into())),
        Event::Written(Written::OnDisk),
    ];
    let effects = events.into_iter().map(|event| source.step(event)).last();
    (source, effects.unwrap_or_default())
}

fn asks(effects: &[Effect<Reason>]) -> Option<&Question> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ask(question) => Some(question),
        _ => None,
    })
}

#[test]
fn an_abort_or_the_commitment_wins_and_never_both() {
    let (mut source, _) = Source::<Reason>::ordered(false);
    for event in [Event::Inspected(Ok(())), Event::Written(Written::OnDisk)] {
        let _ = source.step(event);
    }
    assert_eq!(source.step(Event::Abort), [Effect::BreakOff]);
    assert_eq!(source.step(Event::Ready(Ok(()))), [Effect::Undo]);
    let ended = [Effect::Forget, Effect::Conclude(Outcome::Aborted, Some(Why::Aborted))];
    assert_eq!(source.step(Event::Undone), ended);

    let (mut source, effects) = relinquished();
    assert_eq!(asks(&effects), Some(&Question::Relinquish("d".into())));
    assert!(!source.can_be_aborted());
    assert_eq!(source.step(Event::Abort), []);
}

#[test]
fn a_doubt_is_told_once_and_ends_with_an_answer() {
    let (mut source, _) = relinquished();
    let effects = source.step(Event::Answered(Answer::Silent));
    assert_eq!(effects, [Effect::Set(Timer::Pause), Effect::Set(Timer::Silence)]);
    assert_eq!(asks(&source.step(Event::Rang(Timer::Pause))), Some(&Question::Inquire));
    assert_eq!(source.step(Event::Rang(Timer::Silence)), [Effect::Doubt(Doubt::Silent)]);
    assert!(source.in_doubt());
    assert_eq!(source.step(Event::Rang(Timer::Undecided)), []);
    let effects = source.step(Event::Answered(Answer::Restored));
    assert_eq!(effects.last(), Some(&Effect::CleanUp));
    assert!(!source.in_doubt());
}

#[test]
fn a_destination_that_knows_nothing_must_promise_before_the_service_is_taken_back() {
    let (mut source, _) = relinquished();
    let _ = source.step(Event::Answered(Answer::Unknown));
    assert_eq!(asks(&source.step(Event::Rang(Timer::Pause))), Some(&Question::Withdraw));
    let effects = source.step(Event::Answered(Answer::Refused("never")));
    assert_eq!(effects.last(), Some(&Effect::Write(SourceState::Reclaiming)));
    assert_eq!(source.step(Event::Written(Written::OnDisk)), [Effect::TakeBack]);
}

#[test]
fn once_it_may_be_on_disk_that_it_is_relinquished_the_destination_must_promise_or_that_is_taken_back() {
    let unsure = || {
        let (mut source, _) = Source::<Reason>::taken_up(SourceState::Preparing, false);
        assert!(!source.has_ended());
        (source, _) = Source::ordered(false);
        for event in [
            Event::Inspected(Ok(())),
            Event::Written(Written::OnDisk),
            Event::Ready(Ok(())),
            Event::Written(Written::OnDisk),
            Event::Dumped(Ok("d".into())),
        ] {
            let _ = source.step(event);
        }
        let effects = source.step(Event::Written(Written::Unsure));
        assert_eq!(effects, [Effect::Write(SourceState::Reclaiming)]);
        source
    };
    assert_eq!(unsure().step(Event::Written(Written::OnDisk)), [Effect::TakeBack]);
    let mut source = unsure();
    assert_eq!(asks(&source.step(Event::Written(Written::Unsure))), Some(&Question::Withdraw));
    // It is never told to restore the service after that.
    let _ = source.step(Event::Answered(Answer::Preparing));
    assert_eq!(asks(&source.step(Event::Rang(Timer::Pause))), Some(&Question::Withdraw));
}

#[test]
fn the_operators_decision_yields_to_the_destinations_word() {
    let in_doubt = || {
        let (mut source, _) = relinquished();
        let _ = source.step(Event::Answered(Answer::Silent));
        let _ = source.step(Event::Rang(Timer::Silence));
        source
    };
    let mut source = in_doubt();
    assert_eq!(asks(&source.step(Event::Decided { keep: false })), Some(&Question::Withdraw));
    // Nothing is discarded that is the only copy.
    let effects = source.step(Event::Answered(Answer::Refused("restarted")));
    assert_eq!(effects.last(), Some(&Effect::Write(SourceState::Reclaiming)));

    let mut source = in_doubt();
    let _ = source.step(Event::Decided { keep: false });
    let effects = source.step(Event::Answered(Answer::Silent));
    assert_eq!(effects.last(), Some(&Effect::Write(SourceState::GivenUp)));
    assert_eq!(source.step(Event::Written(Written::Unsure)), [Effect::Set(Timer::Retry)]);
    assert_eq!(source.step(Event::Rang(Timer::Retry)), [Effect::Write(SourceState::GivenUp)]);
    assert_eq!(source.step(Event::Written(Written::OnDisk)), [Effect::Discard]);
    let ended = [Effect::Forget, Effect::Conclude(Outcome::GivenUp, Some(Why::GivenUp))];
    assert_eq!(source.step(Event::Discarded(true)), ended);
}

#[test]
fn a_service_that_cannot_be_taken_back_is_tried_again_until_the_operator_gives_it_up() {
    let (mut source, effects) = Source::taken_up(SourceState::Dumping, false);
    assert_eq!(effects, [Effect::TakeBack]);
    let effects = source.step(Event::TakenBack(Err("no room")));
    let doubt = Doubt::NotTakenBack { why: Why::Restarted, error: "no room" };
    assert_eq!(effects, [Effect::Doubt(doubt), Effect::Set(Timer::Retry)]);
    assert_eq!(source.step(Event::Rang(Timer::Retry)), [Effect::TakeBack]);
    // The decision comes while it is being tried: it counts if that fails.
    assert_eq!(source.step(Event::Decided { keep: false }), []);
    let effects = source.step(Event::TakenBack(Err("no room")));
    assert_eq!(effects, [Effect::Write(SourceState::GivenUp)]);
}

#[test]
fn the_destination_forgets_only_after_the_source_has_it_on_disk() {
    let (mut source, _) = Source::<Reason>::taken_up(SourceState::Relinquished { digest: "d".into() }, false);
    let _ = source.step(Event::Answered(Answer::Restored));
    assert_eq!(source.step(Event::CleanedUp(true)), [Effect::Write(SourceState::Restored)]);
    assert_eq!(source.step(Event::Written(Written::OnDisk)), [Effect::Close]);
    let ended = [Effect::Forget, Effect::Conclude(Outcome::Done, None)];
    assert_eq!(source.step(Event::Closed), ended);
    // A next life does not ask a destination that may have forgotten it.
    let (_, effects) = Source::<Reason>::taken_up(SourceState::Restored, false);
    assert_eq!(effects, [Effect::CleanUp]);
}

fn prepared() -> Destination<Reason> {
    let (mut destination, effects) = Destination::asked(1, false);
    assert_eq!(effects, [destination::Effect::Admit]);
    let _ = destination.step(destination::Event::Admitted(Ok(())));
    let _ = destination.step(destination::Event::Written(Written::OnDisk));
    let ready = destination.step(destination::Event::Ready(Ok(false)));
    assert_eq!(ready, [destination::Effect::Reply(1, Told::Prepared)]);
    destination
}

#[test]
fn the_destination_says_that_it_refused_only_when_what_was_its_own_can_never_run_there() {
    let mut destination = prepared();
    let verify = destination.step(destination::Event::Asked(2, Request::Relinquish("d".into())));
    assert_eq!(verify, [destination::Effect::Verify("d".into())]);
    let _ = destination.step(destination::Event::Verified(Ok(())));
    assert_eq!(
        destination.step(destination::Event::Written(Written::OnDisk)),
        [destination::Effect::Restore]
    );
    // A repeated order learns how far the first one is.
    let told = destination.step(destination::Event::Asked(3, Request::Relinquish("d".into())));
    assert_eq!(told, [destination::Effect::Reply(3, Told::State(Said::Restoring))]);
    let failed = destination.step(destination::Event::Restored(Err("CRIU")));
    assert_eq!(failed, [destination::Effect::Disarm]);
    let told = destination.step(destination::Event::Disarmed(false));
    assert_eq!(told[0], destination::Effect::Reply(2, Told::State(Said::Restoring)));
    let _ = destination.step(destination::Event::Rang(destination::Timer::Retry));
    let refused = Said::Refused(destination::Why::Failed("CRIU"));
    assert_eq!(
        destination.step(destination::Event::Disarmed(true)),
        [destination::Effect::Write(refused.clone())]
    );
    assert_eq!(destination.said(), Some(Said::Restoring));
    // What is left of it may be removed later.
    let effects = destination.step(destination::Event::Written(Written::OnDisk));
    assert_eq!(effects, [destination::Effect::Remove]);
    assert_eq!((destination.said(), destination.is_open()), (Some(refused), true));
    let _ = destination.step(destination::Event::Removed(true));
    assert!(!destination.is_open());
}

#[test]
fn what_is_withdrawn_while_it_is_made_is_refused_once_it_is_made() {
    let (mut destination, _) = Destination::<Reason>::asked(1, false);
    let _ = destination.step(destination::Event::Admitted(Ok(())));
    let _ = destination.step(destination::Event::Written(Written::OnDisk));
    assert_eq!(destination.step(destination::Event::Asked(2, Request::Withdraw)), []);
    let effects = destination.step(destination::Event::Ready(Ok(false)));
    let refused = Said::Refused(destination::Why::Withdrawn);
    assert_eq!(effects, [destination::Effect::Write(refused.clone())]);
    let effects = destination.step(destination::Event::Written(Written::OnDisk));
    let [destination::Effect::Reply(1, one), destination::Effect::Reply(2, two), destination::Effect::Remove] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((one, two), (&Told::State(refused.clone()), &Told::State(refused)));
}
