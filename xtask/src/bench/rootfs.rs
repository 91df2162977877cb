//! Root file systems for what is measured in an image: of programs of this host and the libraries they need.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::host;

/// How much an image holds besides bash, in a hundred folders of a hundred files each.
pub(super) const IMAGE_BYTES: u64 = 1_000_000_000;
/// In how many layers.
const IMAGE_LAYERS: u64 = 10;

/// Makes a folder with the programs, at their places, and the libraries that they need.
pub(super) fn with_programs(folder: &Path, programs: &[&str]) -> Result<(), String> {
    let script = r#"mkdir -p "$1"; root=$1; shift
        tar --dereference --create --absolute-names "$@" $(ldd "$@" | grep -oE '/[^ :]+' | sort -u) 2>/dev/null |
            tar --extract --absolute-names --transform="s|^/|$root/|""#;
    let folder = folder.to_string_lossy();
    host::output(&[&["sh", "-euc", script, "sh", &folder], programs].concat()).map(drop)
}

/// As `docker save` writes it: bash, and [`IMAGE_BYTES`] that nothing looks at, in [`IMAGE_LAYERS`] with the same share each.
pub(super) fn large_image(folder: &Path) -> Result<PathBuf, String> {
    let root = folder.join("root");
    with_programs(&root, &["/bin/bash"])?;
    // A build's scripts are for `sh`.
    let script = r#"cd "$1" && ln -s bash root/bin/sh
        for layer in $(seq "$3"); do
            for number in $(seq $((100 / $3))); do
                mkdir -p "root/filler/$layer-$number"
                head -c "$(($2 / 100))" /dev/urandom | split -b "$(($2 / 10000))" - "root/filler/$layer-$number/"
            done
            tar -C root -cf "layer-$layer.tar" . && rm -r root
            sha256sum "layer-$layer.tar"
        done"#;
    let (place, bytes, count) = (folder.to_string_lossy(), IMAGE_BYTES.to_string(), IMAGE_LAYERS.to_string());
    let sums = host::output(&["sh", "-euc", script, "sh", &place, &bytes, &count])?;
    let (sums, layers): (Vec<&str>, Vec<&str>) =
        sums.lines().filter_map(|line| line.split_once("  ")).unzip();
    let diff_ids: Vec<String> = sums.iter().map(|sum| format!("sha256:{sum}")).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["bench:1"], "Layers": layers }]);
    write(&folder.join("config.json"), &config)?;
    write(&folder.join("manifest.json"), &manifest)?;
    let image = folder.join("image.tar");
    let path = image.to_string_lossy();
    let tar = ["tar", "-C", &place, "--remove-files", "-cf", &path, "manifest.json", "config.json"];
    host::output(&[&tar[..], &layers].concat())?;
    Ok(image)
}

/// A bundle in which an OCI runtime runs `/bin/true`, with the settings that `runc spec` writes.
pub(super) fn bundle(folder: &Path) -> Result<(), String> {
    with_programs(&folder.join("rootfs"), &["/bin/true"])?;
    host::output(&["runc", "spec", "--bundle", &folder.to_string_lossy()])?;
    let path = folder.join("config.json");
    let text = std::fs::read(&path).map_err(|e| e.to_string())?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    write(&path, &config)
}

fn write(path: &Path, value: &Value) -> Result<(), String> {
    std::fs::write(path, value.to_string()).map_err(|e| format!("{}: {e}", path.display()))
}
