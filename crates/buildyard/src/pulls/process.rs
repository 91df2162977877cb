//! `buildyard pull`: the process that fetches one image for a server. It is told by one line what is wanted, says what it does by
//! lines, and ends at once when whoever started it is gone.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use image::{Digest, Held, Reach};

use super::{Order, Places, Said, Wanted};
use crate::image_command::told;
use crate::images;

/// How often an image is fetched that is removed just when it is there.
const ATTEMPTS: usize = 3;

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
    images::take_own_mounts();
    let asked = std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // Nobody waits for it any more; what is half done is for the next one to take up or remove.
        std::process::exit(1)
    });
    let (said, _held) = match carry_out(&order) {
        Ok((digest, held)) => (Said::There(digest), Some(held)),
        Err(why) => (Said::Failed(why), None),
    };
    say(&said);
    // The image is held by whoever asked from now on, if it has heard us.
    let _ = asked.join();
    ExitCode::SUCCESS
}

/// The image, which stays while it is held.
fn carry_out(order: &Order) -> Result<(Digest, Held), String> {
    let Order { images: folder, wanted: Wanted { reference, by, places }, quota_bytes } = order;
    let mut tell = |progress| {
        if let Some(text) = images::said(progress) {
            say(&Said::Told(text));
        }
    };
    let images = images::opened(folder, by)?.with_quota(*quota_bytes).with_reach(reach(places)?);
    for _ in 0..ATTEMPTS {
        let image = images::resolve(&images, reference, by, &mut tell)?;
        if let Some(held) = images.hold(&image).map_err(|e| told(&e))? {
            images::forget_old(&images)?;
            return Ok((image.digest, held));
        }
    }
    Err("it is removed as often as it comes".into())
}

fn reach(places: &Places) -> Result<Reach, String> {
    let Places::Public { and } = places else { return Ok(Reach::default()) };
    let allowed = and.iter().map(|text| text.parse()).collect::<Result<_, source::Error>>();
    let policy = source::Policy { anywhere: false, allowed: allowed.map_err(|e| e.to_string())? };
    Ok(Reach::only(move |address| policy.allows(address)))
}

fn say(said: &Said) {
    let mut line = serde_json::to_vec(said).expect("texts and digests are plain data");
    line.push(b'\n');
    // Who does not listen any more is about to end us.
    let _ = std::io::stdout().lock().write_all(&line);
}
