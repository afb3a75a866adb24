//! An Authentication Server with its table in memory: makes a key for one address, prints where it answers, and answers until
//! its standard input ends. usage: authority ADDRESS KEY-FILE; the key is written to the file, for nobody else to read.

use std::error::Error;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use addrauth::authority::{Authority, Clock};
use addrauth::config::{Config, Limits};
use addrauth::proto::address::Address;
use addrauth::store::MemoryKeys;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key_file] = arguments.as_slice() else { return Err("usage: authority ADDRESS KEY-FILE".into()) };
    let address = Address::parse(address.as_bytes(), true).map_err(|_| "that is no address")?;

    let text = format!("[authority]\ndomains = [\"{}\"]\nlisten = [\"127.0.0.1:0\"]\n", address.domain());
    let (config, limits) = (Config::parse(&text, Path::new("example"))?, Arc::new(Limits::default()));
    let table = Arc::new(MemoryKeys::new());
    let authority = Arc::new(Authority::over(table, &config, &limits, Clock::system())?);

    let issued = authority.issue(&address).await?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(key_file)?;
    writeln!(file, "{}", issued.key.expose())?;

    let sockets = authority.bind()?;
    println!("{}", sockets[0].local_addr()?);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Arc::clone(&authority).serve(sockets, stop.clone()));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    stop.cancel();
    Ok(serving.await?)
}
