//! What the repository holds: many small stacks on hosts by their label, and a shop on one by name.

/// Stacks in all: the shop, and the rest.
pub(crate) const STACKS: usize = 200;
/// Hosts, each with a label of its own that a third of the stacks asks for.
pub(crate) const HOSTS: usize = 3;
/// The host of the shop.
pub(crate) const SHOP_HOST: &str = "web1";
/// The label's name.
pub(crate) const LABEL: &str = "rack";

/// Two services: one with a page mounted and a volume, one with neither.
const SHOP: &str = "services:
  web:
    image: hostler-test/web:1
    volumes:
      - ./www:/www:ro
      - orders:/orders
  worker:
    image: hostler-test/sleeper:1
volumes:
  orders:
x-hostler:
  hosts: [web1]
";

/// The value of the label of the host of that number, from 0.
pub(crate) fn rack(host: usize) -> String {
    format!("r{}", host + 1)
}

/// The path of one of the small stacks, from 1.
pub(crate) fn app(number: usize) -> String {
    format!("apps/app-{number:03}")
}

/// Its compose file. Without a network of its own: an engine has addresses for some thirty networks.
pub(crate) fn compose(number: usize) -> String {
    format!(
        "services:
  app:
    image: hostler-test/sleeper:1
    network_mode: none
    volumes:
      - ./settings.conf:/settings.conf:ro
x-hostler:
  labels:
    {LABEL}: {}
",
        rack(number % HOSTS)
    )
}

/// The file it has mounted.
pub(crate) fn settings(number: usize, round: usize) -> String {
    format!("name = app-{number:03}\nround = {round}\n")
}

/// Every file of all stacks, by path.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut files = vec![
        ("shop/docker-compose.yml".to_owned(), SHOP.to_owned()),
        ("shop/www/index.html".to_owned(), "the shop opens soon\n".to_owned()),
    ];
    for number in 1..STACKS {
        files.push((format!("{}/docker-compose.yml", app(number)), compose(number)));
        files.push((format!("{}/settings.conf", app(number)), settings(number, 0)));
    }
    files
}
