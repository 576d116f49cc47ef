//! Places of which one client may not have all.

use super::*;
use crate::serve::{
    limits::blocks::{Client, Visitor},
    testing::key_of,
};

fn visitor(last: u8) -> Visitor {
    Visitor {
        client: Client::of([198, 51, 100, last].into()),
        is_operator: false,
        is_barred: false,
    }
}

#[tokio::test(start_paused = true)]
async fn one_client_cannot_wait_in_all_places_for_builds() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    let path = format!("/{KEY}record");
    let mut waiting = tokio::task::JoinSet::new();
    let site = Arc::new(site);
    for _ in 0..64 {
        let (site, path) = (Arc::clone(&site), path.clone());
        waiting.spawn(async move { site.read([198, 51, 100, 1], &path, &[]).await.status });
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let refused = site.read([198, 51, 100, 1], &path, &[]).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("too many requests wait"));
    assert_ne!(refused.header("retry-after"), "");
    let (other, far) = (Arc::clone(&site), path.clone());
    waiting.spawn(async move { other.read([198, 51, 100, 2], &far, &[]).await.status });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    site.bench.executor.go.send_replace(true);
    let all = waiting.join_all().await;
    assert!(all.len() == 65 && all.iter().all(|status| *status == StatusCode::OK));
}

#[tokio::test]
async fn one_client_cannot_have_all_downloads() {
    let site = Site::new().await;
    let path = format!("{}{NAME}", site.built().await);
    let ask = async |last| site.read([198, 51, 100, last], &path, &[]).await;
    let held: Vec<_> = (0..768)
        .map(|_| {
            site.app
                .place(&site.app.limits.downloads, visitor(1))
                .unwrap()
        })
        .collect();
    let refused = ask(1).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("too many downloads"));
    assert_eq!(ask(2).await.status, StatusCode::OK);
    drop(held);
    // Parts and large files cost more, and have fewer places.
    let first = [("range", "bytes=0-1")];
    let held: Vec<_> = (0..128)
        .map(|_| site.app.place(&site.app.limits.pieced, visitor(1)).unwrap())
        .collect();
    let refused = site.read([198, 51, 100, 1], &path, &first).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(1).await.status, StatusCode::OK);
    drop(held);
    for _ in 0..200 {
        let part = site.read([198, 51, 100, 1], &path, &first).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    }
    // A place is free again when the body was read.
    for _ in 0..200 {
        assert_eq!(ask(1).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn who_waits_for_compressed_downloads_holds_up_no_others() {
    let site = Site::new().await;
    let result = site.built().await;
    let gz = format!("{result}{NAME}.gz");
    let file = format!("{result}{NAME}");
    let ask = async |last, path| site.read([198, 51, 100, last], path, &[]).await;
    assert_eq!(ask(3, &gz).await.status, StatusCode::OK);
    let held: Vec<_> = (0..2)
        .map(|_| {
            site.app
                .place(&site.app.limits.compressions, visitor(1))
                .unwrap()
        })
        .collect();
    assert_eq!(ask(1, &gz).await.status, StatusCode::OK, "it is there");
    remove_compressed(&site);
    let refused = ask(1, &gz).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("take the uncompressed one"));
    assert_eq!(ask(1, &file).await.status, StatusCode::OK);
    // One is made at a time, and who waits takes no thread from those who want a file.
    let turn = Arc::clone(&site.app.limits.compressing)
        .acquire_owned()
        .await;
    let site = &site;
    let waits = site.read([198, 51, 100, 2], &gz, &[]);
    let in_time = std::time::Duration::from_millis(100);
    assert!(tokio::time::timeout(in_time, waits).await.is_err());
    assert_eq!(ask(2, &file).await.status, StatusCode::OK);
    drop((turn, held));
    assert_eq!(ask(1, &gz).await.status, StatusCode::OK);
}

fn remove_compressed(site: &Site) {
    let folder = site.bench.folder.path().join("artifacts");
    for part in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(part.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "gz") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn one_client_cannot_have_all_event_streams() {
    let site = Site::new().await;
    let app = &site.app;
    let most = |enter: &dyn Fn() -> bool| (0..).take_while(|_| enter()).count();
    let held = std::cell::RefCell::new(Vec::new());
    let streams = most(&|| {
        let stream = app.place(&app.limits.streams, visitor(1));
        stream.map(|share| held.borrow_mut().push(share)).is_ok()
    });
    assert_eq!(streams, 768);
    let events = format!("/{KEY}events");
    let refused = site.read([198, 51, 100, 1], &events, &[]).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let refused = site.read([198, 51, 100, 1], "/api/v1/records/events", &[]);
    assert_eq!(refused.await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(app.place(&app.limits.streams, visitor(2)).is_ok());
}

#[tokio::test]
async fn what_is_not_there_today_may_be_there_in_a_minute() {
    let site = Site::new().await;
    let (missing, broken) = (key_of(1), key_of(2));
    let executor = &site.bench.executor;
    executor.set(&missing, fails(FailureClass::CannotBuild, "not_found"));
    executor.set(&broken, fails(FailureClass::CannotBuild, "build_failed"));
    let ask = async |key: &BuildKey| site.get(&format!("/{key}record")).await.status;
    assert_eq!(ask(&missing).await, StatusCode::NOT_FOUND);
    assert_eq!(ask(&broken).await, StatusCode::NOT_FOUND);
    let page = site.browse(&format!("/{missing}")).await;
    assert!(page.text().contains("This need not fail again"));
    assert!(!page.text().contains("retry"));
    let page = site.browse(&format!("/{broken}")).await;
    assert!(page.text().contains("not tried again by itself"));
    // Published meanwhile: a moment later it is built, and what was wrong stays wrong.
    executor.set(&missing, Outcome::Binary(b"there".to_vec()));
    executor.set(&broken, Outcome::Binary(b"there".to_vec()));
    assert_eq!(ask(&missing).await, StatusCode::NOT_FOUND);
    site.bench.clock.advance(61);
    assert_eq!(ask(&missing).await, StatusCode::OK);
    assert_eq!(ask(&broken).await, StatusCode::NOT_FOUND);
}
