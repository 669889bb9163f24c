//! `make demo-stacks`: a repository of 200 stacks, a controller that looks at it, and three hosts with
//! an agent and a Docker Engine each. A push becomes what runs; a mounted file, a directory that goes,
//! a file that is broken and a repository that is away are shown with what each of them touches and
//! what not. Everything it starts has its own directory and ports and ends with it, interrupted or
//! not.

mod figures;
mod parts;
mod repository;
mod show;
mod stop;

use std::io::IsTerminal;
use std::process::ExitCode;

use hostler_tests::servers::ServerError;
use hostler_tests::teller::{Teller, complain};

use show::Show;
use stop::Stop;

fn main() -> ExitCode {
    let teller = Teller::begin();
    let ended = Stop::listen().map(|stop| {
        let ended = run(&teller, &stop);
        teller.say("everything is stopped");
        (ended, stop.is_asked())
    });
    match ended {
        Ok((Ok(()), _)) => ExitCode::SUCCESS,
        // What fails when its servers are interrupted with it is no failure of theirs.
        Ok((Err(_), true)) => {
            complain("interrupted");
            ExitCode::from(stop::INTERRUPTED)
        }
        Ok((Err(error), false)) | Err(error) => {
            complain(&format!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(teller: &Teller, stop: &Stop) -> Result<(), ServerError> {
    let mut show = Show::start(teller, stop)?;
    let first = parts::push_all(&mut show)?;
    parts::change_a_mounted_file(&mut show)?;
    let times = figures::measure(&mut show)?;
    parts::remove_a_directory(&mut show)?;
    parts::break_a_compose_file(&mut show)?;
    parts::pull_the_plug(&mut show)?;
    teller.say("measured on the way, everything on this one machine:");
    teller.show(&figures::table(&show, &first, &times)?);
    stay(&show)?;
    teller.say("done; stopping everything");
    drop(show);
    Ok(())
}

/// In a terminal the demo stays up until it is interrupted.
fn stay(show: &Show<'_>) -> Result<(), ServerError> {
    if std::env::var_os("CI").is_some() || !std::io::stdout().is_terminal() {
        return Ok(());
    }
    let api = show.system.controller.api_port;
    let (work, bare) = (show.system.work.dir(), show.system.git.path("config"));
    show.teller.say(&format!("it stays up until Ctrl-C. Look at http://127.0.0.1:{api}/"));
    show.teller.show(&format!(
        "export HOSTLER_SERVER=http://127.0.0.1:{api}\n\
         target/debug/hostler stack list\n\
         target/debug/hostler stack show apps/app-001\n\
         docker --host {} ps\n\
         cd {} && echo 'greeting = hello' > apps/app-001/settings.conf\n\
         git commit -qam 'Change a setting' && git push -q {} HEAD:main\n\
         target/debug/hostler refresh --wait",
        show.system.hosts[0].engine.host(),
        work.display(),
        bare.display(),
    ));
    show.stop.wait();
    Ok(())
}
