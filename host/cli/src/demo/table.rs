//! What the demonstration prints.

use serde_json::{Value, json};

use super::act::{Act, Ending};
use super::acts::{found, policy};
use super::scene::Scene;

/// One line of the table, with a heading above the first; a person's own message is shown as it would be delivered.
pub(super) fn row(n: usize, act: &Act, ending: &Ending, wrong: &[String]) {
    if n == 0 {
        println!("{:<37}{:<26}{:<25}the MTA was told", "case", "found", "policy");
        println!("{}", "-".repeat(118));
    }
    let notice = if ending.notice.is_some() { "; the recipient got a notice" } else { "" };
    let mark = if wrong.is_empty() { "" } else { "   <- WRONG" };
    println!("{:<37}{:<26}{:<25}{}{notice}{mark}", act.name, found(&ending.case), policy(&ending.case), ending.told);
    for fault in wrong {
        println!("    {fault}");
    }
    if act.expected.is_none() {
        match &ending.delivered {
            Some(message) => println!("\n{}", String::from_utf8_lossy(message).replace("\r\n", "\n")),
            None => println!("\nNothing is delivered.\n"),
        }
    }
}

/// One case as JSON. `delivered` is the message as text, without any key.
pub(super) fn object(act: &Act, ending: &Ending, wrong: &[String]) -> Value {
    json!({
        "case": act.name,
        "expected": wrong.is_empty(),
        "faults": wrong,
        "told": ending.told,
        "delivered": ending.delivered.as_deref().map(String::from_utf8_lossy),
        "notice": ending.notice,
        "record": ending.case,
    })
}

/// The sum under the table.
pub(super) fn closing(scene: &Scene, all: usize, good: usize) {
    println!("{}", "-".repeat(118));
    println!("{good} of {all} cases ended as they should.");
    println!();
    println!("What took part, all on loopback: DNS on {}, the Authentication Server on {},", scene.dns, scene.server);
    println!("the filter on {}, a mailbox for notices on {}.", scene.milter, scene.mailbox.address());
    println!("Send a message of your own through it: addrauth demo --mail FILE.eml");
    println!("Connect a Postfix to it: addrauth demo --stay");
}

/// How to connect a Postfix; alice's key is shown, since it is a throw-away one of this run.
pub(super) fn connect(scene: &Scene) -> std::io::Result<()> {
    println!();
    println!("Running until Ctrl-C. In Postfix's main.cf:");
    println!();
    println!("    smtpd_milters = {{ {}, default_action=tempfail, command_timeout=30s }}", scene.milter);
    println!();
    println!("then send mail to somebody@home.example:");
    println!();
    println!("    From: alice@sender.example");
    println!("    X-Auth-Key: {}", scene.key.expose());
    std::io::Write::flush(&mut crate::output::out())
}
