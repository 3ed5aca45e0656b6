//! `filigree-pool-bench filigree|rayon THREADS` measures one pool and prints its figures as a JSON array.

mod measure;
mod rayon_pool;
#[path = "../../addon/src/workers.rs"]
mod workers;

use measure::{measure, Figure};
use rayon_pool::with_rayon;
use std::process::ExitCode;
use workers::Workers;

fn to_json(figures: &[Figure]) -> String {
    let lines: Vec<String> = figures
        .iter()
        .map(
            |Figure {
                 work,
                 unit,
                 value,
                 bytes,
             }| { format!(r#"{{"work":"{work}","unit":"{unit}","value":{value},"bytes":{bytes}}}"#) },
        )
        .collect();
    format!("[{}]", lines.join(","))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = arguments
        .get(1)
        .and_then(|text| text.parse().ok())
        .filter(|&threads| threads > 0);
    let figures = match (arguments.first().map(String::as_str), threads) {
        (Some("filigree"), Some(threads)) => Ok(measure(&Workers::new(threads))),
        (Some("rayon"), Some(threads)) => with_rayon(threads, measure),
        _ => Err("usage: filigree-pool-bench filigree|rayon THREADS".into()),
    };
    match figures {
        Ok(figures) => {
            println!("{}", to_json(&figures));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
