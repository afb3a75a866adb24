//! A milter on a port: the filter with a verifier and the shipped policies, and nothing on the disk. It serves until its standard
//! input ends. usage: milter [DNS-SERVER ALLOWED-NETWORK]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use addrauth::config::{Config, Limits};
use addrauth::filter::Filter;
use addrauth::mta::Lanes;
use addrauth::mta::milter::{self, serve};
use addrauth::mta::reception::Reception;
use addrauth::policy::Trial;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = "hostname = \"mx.example.net\"\nfinal_domains = [\"example.net\"]\nobserve = false\n\
     [milter]\nlisten = [\"inet:127.0.0.1:0\"]\n[policy]\ninvalid = \"reject-notify-sender\"\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut config, limits) = (Config::parse(CONFIG, Path::new("example"))?, Arc::new(Limits::default()));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [server, network] = arguments.as_slice() {
        (config.verify.dns, config.verify.allow_targets) = (vec![server.parse()?], vec![network.parse()?]);
    }

    let listeners = milter::bind(&config.milter)?;
    // Without custody there is no journal, no quarantine and no notice: a decision that owes one is answered 451.
    let filter = Filter::builder(config, Trial::waived()).limits(Arc::clone(&limits)).without_custody().open().await?;

    println!("{}", listeners[0].local());
    let stop = CancellationToken::new();
    let (_snapshots, judge) = watch::channel(Arc::new(filter));
    let reception = Reception::open(judge, limits, stop.clone());
    let serving = tokio::spawn(serve(listeners, reception, Lanes::here()));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    stop.cancel();
    Ok(serving.await?)
}
