//! temp
use portway::app::{App, Setup, TakeSignals};
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
struct E;
fn main() {
    let path = std::env::args().skip_while(|a| a != "-c").nth(1).unwrap();
    portway::telemetry::logging::init(portway::telemetry::logging::Format::from_environment());
    let env = portway::config::expand::ProcessEnvironment;
    let loaded = match portway::config::load::read(path.as_ref(), &env) { Ok(l) => l, Err(e) => { eprintln!("{:?}", e.list); std::process::exit(1) } };
    let setup = Setup { config: loaded.config, file: Some(path.into()), yaml: String::new() };
    match App::start(setup) { Ok(app) => { let end = app.run(TakeSignals::Yes); println!("{end:?}"); } Err(e) => { eprintln!("{e}"); std::process::exit(1) } }
}
