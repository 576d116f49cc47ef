//! Links to other targets: on which pages, where they lead, and that they start nothing.

use super::*;

fn link(target: &str) -> String {
    let page = KEY.replace("linux-amd64", target);
    format!("<a href=\"/{page}\" rel=\"nofollow\">")
}

#[tokio::test]
async fn results_failures_and_builds_lead_to_all_targets_and_show_what_is_built() {
    let site = Site::new().await;
    let failed = KEY.replace("linux-amd64", "windows-amd64");
    let refused = fails(FailureClass::CannotBuild, "platform_not_supported");
    site.bench
        .executor
        .set(&BuildKey::parse(&failed).unwrap(), refused);
    site.get(&format!("/{failed}record")).await;
    let result = site.built().await;
    let arm = KEY.replace("linux-amd64", "linux-arm64");
    let unbuilt = format!("/{arm}");
    for path in [&result, &format!("/{failed}"), &unbuilt] {
        let page = site.browse(path).await;
        for target in ["darwin-arm64", "plan9-386", "wasip1-wasm"] {
            assert!(
                page.text().contains(&link(target)),
                "{path} {target}: {}",
                page.text()
            );
        }
        assert!(!page.text().contains(&link("ios-arm64")), "{path}");
    }
    let started = site.started();
    let before = site.browse(&result).await;
    let built = format!("{}arm64</a> <small>", link("linux-arm64"));
    assert!(!before.text().contains(&built), "{}", before.text());
    assert!(
        before
            .text()
            .contains("<b aria-current=\"page\">amd64</b> <small>")
    );
    assert_eq!(site.browse(&unbuilt).await.status, StatusCode::OK);
    assert_eq!(site.started(), started, "a link starts nothing");
    assert_eq!(
        site.get(&format!("/{arm}record")).await.status,
        StatusCode::OK
    );
    let after = site.browse(&result).await;
    assert!(after.text().contains(&built), "{}", after.text());
}

#[tokio::test]
async fn the_commands_of_a_module_lead_to_all_targets() {
    let site = Site::new().await;
    assert_eq!(
        site.post("/example.org/m@v1.2.3", "").await.status,
        StatusCode::SEE_OTHER
    );
    let page = site.browse("/example.org/m").await;
    for href in [
        "/example.org/m@v1.2.3/cmd/tool/darwin-arm64-latest/",
        "/example.org/m@v1.2.3/js-wasm-latest/",
    ] {
        let link = format!("<a href=\"{href}\" rel=\"nofollow\">");
        assert!(page.text().contains(&link), "{link}: {}", page.text());
    }
}
