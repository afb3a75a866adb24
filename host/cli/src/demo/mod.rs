//! `addrauth demo`: the whole exchange on loopback, in one process.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, exit, fail};
use addrauth::config::Limits;
use addrauth::files;

mod act;
mod acts;
mod scene;
mod table;

use act::Act;
use scene::Scene;

/// Show every case on loopback: a DNS zone, an Authentication Server, the filter, and an MTA played over its socket.
///
/// Nothing is faked on the way: real DNS packets lead to the server, real VERIFY lines ask it, a component in the sandbox
/// decides, and the milter protocol carries the answer. Nothing outside 127.0.0.1 is touched and nothing is left behind.
/// Exit code 0 only if every case ended as it should.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Send a message of your own through the filter instead, and show what it would be delivered as
    #[arg(long, value_name = "FILE.eml")]
    mail: Option<PathBuf>,

    /// Keep running after the cases, and print the lines that connect a Postfix to it
    #[arg(long)]
    stay: bool,

    /// After each case, tell what `addrauth why` tells of it: for the manual
    #[arg(long)]
    why: bool,
}

/// Exit code 0: each case as expected; 1: not so; 2: the demonstration could not be set up.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    match play(args, context).await {
        Ok(true) => exit::YES,
        Ok(false) => exit::no(),
        Err(error) => fail(error),
    }
}

async fn play(args: Args, context: &Context) -> Result<bool, Box<dyn std::error::Error>> {
    let own = match &args.mail {
        Some(path) => {
            let read = files::read_given(path, Limits::default().files.demo);
            Some(read.map_err(|e| format!("cannot read {}: {e}", path.display()))?)
        }
        None => None,
    };
    let mut scene = Scene::set().await?;
    let acts = match own {
        Some(message) => acts::own(&scene, message)?,
        None => acts::all(&scene)?,
    };
    let good = perform(&mut scene, &acts, args.why, context.json).await?;
    if args.mail.is_none() && !context.json {
        table::closing(&scene, acts.len(), good);
    }
    if args.stay {
        table::connect(&scene)?;
        tokio::signal::ctrl_c().await?;
    }
    scene.strike().await;
    Ok(good == acts.len())
}

/// Plays each act and prints it; the number of those that ended as they should.
async fn perform(scene: &mut Scene, acts: &[Act], why: bool, json: bool) -> Result<usize, scene::Error> {
    let mut good = 0;
    for (n, act) in acts.iter().enumerate() {
        let ending = scene.play(act).await?;
        let wrong = act.faults(&ending, scene.bounds());
        good += usize::from(wrong.is_empty());
        match json {
            true => println!("{}", table::object(act, &ending, &wrong)),
            false => table::row(n, act, &ending, &wrong),
        }
        if why && !json {
            println!("\n{}", scene.why().await?);
        }
    }
    Ok(good)
}
