//! Jobs that a playbook carries out, end to end.

use hostler_tests::system::{Site, System};
use serde_json::json;

#[test]
fn an_environment_chooses_the_playbooks_and_each_kind_of_job_goes_through_them() {
    let system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let path = format!("/api/environments/{}", site.environment);
    let chosen = json!({ "executor": "ansible" });
    let changed = system.controller.call("PATCH", &path, Some(&chosen)).unwrap();
    assert_eq!(changed.expect(200).unwrap()["executor"], "ansible");
    let carried_out = |job: &serde_json::Value| {
        let told = (&job["state"], &job["executor"]);
        assert_eq!(told, (&json!("succeeded"), &json!("ansible")), "{job:#}");
    };

    carried_out(&site.set_caches(&system.controller, true, true).unwrap());
    let told = [site.cache_status("/").unwrap(), site.cache_status("/").unwrap()];
    assert_eq!(told, ["MISS", "HIT"]);

    let one = json!({ "urls": [site.url("/")], "warm": true });
    let job = site.purge(&system.controller, Some(&one)).unwrap();
    carried_out(&job);
    assert_eq!(job["result"]["fastcgi"]["removed"], 1, "{job:#}");
    let warm = job["children"][0].as_str().unwrap();
    let job = system.controller.wait_job(warm, &["succeeded", "failed", "cancelled"]).unwrap();
    carried_out(&job);
    assert_eq!(job["result"]["warmed"], 1, "{job:#}");
    assert_eq!(site.cache_status("/").unwrap(), "HIT");

    let back = json!({ "executor": null });
    system.controller.call("PATCH", &path, Some(&back)).unwrap().expect(200).unwrap();
    let job = site.purge(&system.controller, None).unwrap();
    assert_eq!(job["executor"], "native", "{job:#}");
    assert_eq!(job["result"]["fastcgi"]["removed"], 1, "{job:#}");
}
