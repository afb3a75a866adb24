//! Why a sender hears nothing is decided once.

use super::*;

#[test]
fn why_the_sender_gets_no_report_is_said_where_one_was_to_be_and_nowhere_else() {
    use Disposition::{Accept, Quarantine, Reject};
    let settled = |first: Disposition, sender: bool, permits: Permits, path: ReversePath| {
        let mail = mail(1, &[]).altered(|envelope, _| {
            envelope.reverse_path = path;
            envelope.recipients = ["<bob@home.example>", "<carol@home.example>"].map(Recipient::new).to_vec();
        });
        let decided =
            |index, disposition, sender| Decision { recipients: vec![index], ..decision(disposition, sender, false) };
        let finding = found(KeyStatus::Invalid, Some(Why::Wrong));
        let decisions = [decided(0, first, sender), decided(1, Accept, false)];
        settle(&mail, &finding, &decisions, &rules(false), &permits)
    };
    let path = || ReversePath::Path(Address::parse(b"alice@example.com", false).ok());
    let refused = Permits { report: Err(Unreported::Recent), refuse: true };
    let why = |first, sender, permits, path| settled(first, sender, permits, path).unreported;
    assert_eq!(why(Reject, true, refused.clone(), path()), Some(Unreported::Recent));
    assert_eq!(why(Reject, true, PERMITS, path()), None, "there is a report");
    assert_eq!(why(Reject, true, PERMITS, ReversePath::Null), Some(Unreported::NullPath));
    assert_eq!(why(Reject, true, Permits { refuse: false, ..PERMITS }, path()), Some(Unreported::Relay));
    for (first, sender) in [(Reject, false), (Quarantine, false), (Quarantine, true), (Accept, false)] {
        for permits in [refused.clone(), Permits { refuse: false, ..PERMITS }] {
            assert_eq!(why(first, sender, permits, path()), None, "{first:?}");
        }
    }
}
