//! `buildyard pull`: the process that fetches one image for a server. It is told by one line what is wanted, says what it does by
//! lines, and ends at once when whoever started it is gone.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use super::{Order, Said, Wanted};
use crate::images;

pub(crate) fn pull() -> ExitCode {
    let mut line = String::new();
    let order = match std::io::stdin().lock().read_line(&mut line) {
        Ok(_) => serde_json::from_str(&line),
        Err(error) => Err(serde_json::Error::io(error)),
    };
    let order: Order = match order {
        Ok(order) => order,
        Err(error) => {
            eprintln!("pull: {error}");
            return ExitCode::FAILURE;
        }
    };
    let asked = std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // Nobody waits for it any more; what is half done is for the next one to take up or remove.
        std::process::exit(1)
    });
    say(&carry_out(&order));
    // The image is used from now on by whoever asked, if it has heard us.
    let _ = asked.join();
    ExitCode::SUCCESS
}

fn carry_out(order: &Order) -> Said {
    let Order { images: folder, wanted: Wanted { reference, by }, quota_bytes } = order;
    let mut tell = |progress| {
        if let Some(text) = images::said(progress) {
            say(&Said::Told(text));
        }
    };
    let resolved = images::resolve(folder, reference, by, &mut tell);
    let image = match resolved {
        Ok(image) => image,
        Err(why) => return Said::Failed(why),
    };
    if let Some(quota_bytes) = quota_bytes
        && let Err(why) = images::keep_to(folder, *quota_bytes)
    {
        say(&Said::Told(format!("images beyond images_quota could not be removed: {why}")));
    }
    Said::There(image.digest)
}

fn say(said: &Said) {
    let mut line = serde_json::to_vec(said).expect("texts and digests are plain data");
    line.push(b'\n');
    // Who does not listen any more is about to end us.
    let _ = std::io::stdout().lock().write_all(&line);
}
