//! Taking back what was put on a host for an environment.

use hostler_protocol::job::{OutcomeState, RemoveResult, ToggleResult};

use crate::stand::{Options, Stand, entries, files, result};

#[tokio::test]
async fn removing_takes_everything_back() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!(stand.status(&shop, "/"), "MISS");
    let removed: RemoveResult = result(&stand.remove(&shop).await);
    assert_eq!((removed.files.len(), removed.purged), (3, 1), "{removed:?}");
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
    assert_eq!(stand.status(&shop, "/"), "none");
}

#[tokio::test]
async fn directories_go_with_the_last_environment_that_needs_them() {
    let stand = Stand::start("");
    let caches = stand.nginx.dir().join("cache/hostler");
    let site = |name: &str| {
        let mut site = stand.site(name, &Options::default());
        std::fs::remove_dir(stand.dir().join(name).join("nginx")).unwrap();
        site.fastcgi.as_mut().unwrap().cache_dir = caches.join(name).display().to_string();
        site
    };
    let (shop, blog) = (site("shop"), site("blog"));
    let nginx_dir = |name: &str| stand.dir().join(name).join("nginx");
    for site in [&shop, &blog] {
        result::<ToggleResult>(&stand.toggle(site, true).await);
        assert_eq!([stand.status(site, "/"), stand.status(site, "/?x")], ["MISS", "MISS"]);
    }
    result::<RemoveResult>(&stand.remove(&shop).await);
    let left = [nginx_dir("shop").exists(), caches.join("shop").exists(), caches.exists()];
    assert_eq!(left, [false, false, true], "the first to go takes what is its own");
    assert_eq!(stand.status(&blog, "/"), "HIT", "the neighbour lost its cache");
    result::<RemoveResult>(&stand.remove(&blog).await);
    assert!(!caches.exists(), "a directory stays: {:?}", entries(caches.to_str().unwrap()));
    assert!(caches.parent().unwrap().is_dir() && !nginx_dir("blog").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_of_our_making_stays() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    std::fs::create_dir(&cache_dir).unwrap();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    result::<RemoveResult>(&stand.remove(&shop).await);
    let stay = [stand.dir().join("shop/nginx"), cache_dir.into()].map(|dir| dir.is_dir());
    assert_eq!(stay, [true, true]);
}

#[tokio::test]
async fn a_removal_cancelled_at_any_step_is_undone() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let before = files(&shop);
    for step in ["swap", "reload", "cache_purge"] {
        let outcome = stand.cancel_at(step, stand.remove_spec(&shop)).await;
        if step == "cache_purge" && outcome.state == OutcomeState::Succeeded {
            // An almost empty cache is purged as fast as the cancel comes, and a completion that
            // raced a cancel wins: then the removal is whole.
            assert_eq!(files(&shop), [None, None, None], "{outcome:#?}");
            return;
        }
        assert_eq!(outcome.state, OutcomeState::Cancelled, "cancelled at {step}: {outcome:#?}");
        assert_eq!(files(&shop), before, "cancelled at {step}: {outcome:#?}");
        assert_ne!(stand.status(&shop, "/"), "none", "cancelled at {step}: {outcome:#?}");
    }
    result::<RemoveResult>(&stand.remove(&shop).await);
    assert_eq!(files(&shop), [None, None, None]);
}

#[tokio::test]
async fn a_removal_takes_the_files_of_before_the_environment_named_others_too() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let mut moved = shop.clone();
    moved.nginx.location_file = moved.nginx.location_file.replace(".conf", "-new.conf");
    moved.fastcgi.as_mut().unwrap().cache_dir.push_str("-new");
    assert_eq!(stand.status(&shop, "/"), "MISS");
    let removed: RemoveResult = result(&stand.remove(&moved).await);
    assert_eq!((removed.files.len(), removed.purged), (3, 1), "{removed:?}");
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
    assert_eq!(stand.status(&shop, "/"), "none");
}
