//! A module whose version list the proxy refuses: the go command alone fails on it.

use hotcell_integration::{
    paths, sdk,
    service::{Place, warm},
};

#[test]
fn a_module_is_built_although_the_proxy_refuses_its_version_list() {
    let folder = paths::scratch("twofa");
    let output = folder.path().join("2fa");
    let ended = Place::real(&warm("real")).build("rsc.io/2fa@v1.2.0", &output, &["--go", sdk::GO]);
    assert_ne!(ended.code, 4, "the module proxy failed: {}", ended.err());
    assert_eq!(ended.code, 0, "{}", ended.err());
    let told = ended.json();
    assert_eq!(told["package"], "rsc.io/2fa");
    assert_eq!(told["version"], "v1.2.0");
    assert!(output.is_file());
}
