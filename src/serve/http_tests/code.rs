//! What a page and the interface for programs say of a binary's code and of its modules' licences.

use serde_json::{Value, json};

use super::*;
use crate::{
    build::{Code, PackageCode},
    fetch::wire::Licences,
    serve::catalogue::Catalogue,
    spec::{ImportPath, LicenceId},
};

fn code(packages: &[(&str, u64)], other: u64) -> Code {
    let package = |(path, bytes): &(&str, u64)| PackageCode {
        path: ImportPath::parse(path).unwrap(),
        bytes: *bytes,
    };
    Code::new(packages.iter().map(package).collect(), other).unwrap()
}

async fn result(site: &Site, key: &str) -> Value {
    let answer = site.get(&format!("/api/v1/results/{key}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn a_result_says_how_much_code_each_package_and_module_brings() {
    let site = Site::new().await;
    let many = (0..60).map(|number| (format!("example.org/m/p{number}"), 10));
    let many: Vec<(String, u64)> = many.collect();
    let mut packages: Vec<_> = many
        .iter()
        .map(|(path, bytes)| (path.as_str(), *bytes))
        .collect();
    packages.extend([
        ("runtime", 400_000),
        ("example.org/m/cmd/tool", 90_000),
        ("else.example/x", 7),
    ]);
    *site.bench.executor.code.lock().unwrap() = Some(code(&packages, 1_000));
    let page = site.built().await;
    let page = site.browse(&page).await;
    let text = page.text();
    for part in [
        "Code by package: 491.6 kB",
        "The standard library brings 400.0 kB; 1.0 kB belong to no package",
        "<td>runtime</td><td class=\"number\">400.0 kB</td>",
        "<td class=\"number\">90.6 kB</td>", // of the module
        "and 23 smaller ones",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said = result(&site, KEY).await;
    assert_eq!(said["modules"][0]["code"], 90_600, "{said}");
    assert_eq!(said["code"]["standard_library"], 400_000);
    assert_eq!(said["code"]["other"], 1_007);
    let all = said["code"]["packages"].as_array().unwrap();
    assert_eq!(
        (all.len(), &all[0]),
        (63, &json!({ "path": "runtime", "bytes": 400_000 }))
    );
    // What is stored beside the row is not in it.
    let row = site.app.catalogue.result(&key()).unwrap().unwrap();
    assert_eq!(row.built.code, None);
}

#[tokio::test]
async fn a_binary_that_does_not_say_it_and_modules_nobody_looked_at_have_nothing_on_the_page() {
    let site = Site::new().await;
    let page = site.built().await;
    let page = site.browse(&page).await;
    assert!(page.text().contains("<th scope=\"col\">Module</th>"));
    for part in ["Code by package", "Licence", "none found"] {
        assert!(!page.text().contains(part), "{part}");
    }
    let said = result(&site, KEY).await;
    let module = &said["modules"][0];
    assert_eq!(
        (&said["code"], &module["code"], &module["licences"]),
        (&json!(null), &json!(null), &json!(null))
    );
}

#[tokio::test]
async fn two_results_are_compared_by_the_code_of_their_packages() {
    let site = Site::new().await;
    let other = KEY.replace("go1.26.8", "go1.26.7");
    for (key, packages) in [
        (KEY, [("runtime", 400_000), ("example.org/m/gone", 3_000)]),
        (
            other.as_str(),
            [("runtime", 390_000), ("example.org/m/new", 5_000)],
        ),
    ] {
        *site.bench.executor.code.lock().unwrap() = Some(code(&packages, 0));
        assert_eq!(
            site.get(&format!("/{key}record")).await.status,
            StatusCode::OK
        );
    }
    let page = site.browse(&format!("/-/compare?a={KEY}&b={other}")).await;
    for part in [
        "403.0 kB in the first, 395.0 kB in the second, −8.0 kB",
        "<td>example.org/m/new</td><td class=\"number\">–</td><td class=\"number\">5.0 kB</td>",
        "<td>runtime</td><td class=\"number\">400.0 kB</td><td class=\"number\">390.0 kB</td>",
    ] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    *site.bench.executor.code.lock().unwrap() = None;
    let silent = KEY.replace("go1.26.8", "go1.26.6");
    site.get(&format!("/{silent}record")).await;
    let page = site.browse(&format!("/-/compare?a={KEY}&b={silent}")).await;
    assert!(page.text().contains("Not known for both"));
}

#[tokio::test]
async fn licences_are_learned_after_the_build_and_then_shown_also_of_older_results() {
    let site = Site::new().await;
    let page = site.built().await;
    assert!(!site.browse(&page).await.text().contains("Licence"));
    *site.bench.executor.licences.lock().unwrap() = Some(Licences {
        ids: vec![
            LicenceId::parse("Apache-2.0").unwrap(),
            LicenceId::parse("MIT").unwrap(),
        ],
        others: true,
    });
    let other = KEY.replace("go1.26.8", "go1.26.7");
    assert_eq!(
        site.get(&format!("/{other}record")).await.status,
        StatusCode::OK
    );
    // It is learned in the background; nothing waits for it but this test.
    let mut text = String::new();
    for _ in 0..500 {
        text = site.browse(&page).await.text().to_owned();
        if text.contains("Licence") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(
        text.contains("<td>Apache-2.0, MIT and another text</td>"),
        "{text}"
    );
    let found = &result(&site, KEY).await["modules"][0]["licences"];
    assert_eq!(
        *found,
        json!({ "ids": ["Apache-2.0", "MIT"], "others": true })
    );
    let again = Catalogue::open(&site.bench.folder.path().join("hotcell.db")).unwrap();
    let row = again.result(&key()).unwrap().unwrap();
    let kept = again.licences_of(&row.built.modules).unwrap();
    assert!(kept[0].as_ref().is_some_and(|found| found.others));
}
