//! Sources of containers as users write them: each form, what they bring along from Compose, each mistake.
//! Promises the exact words of every message about them. Whether an engine has any of it is tested where engines are asked.

use std::num::{NonZeroU16, NonZeroU64};

use super::*;

fn docker(keys: &str) -> DockerSource {
    match service(keys).source {
        Source::Docker(docker) => docker,
        other => panic!("{other:?}"),
    }
}

fn container(keys: &str) -> ContainerSource {
    match service(&format!("container: {{ image: acme/thumbs:1.4, port: 5000, {keys} }}")).source {
        Source::Container(container) => *container,
        other => panic!("{other:?}"),
    }
}

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("tests write no port 0")
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn containers_of_others_are_found_by_label() {
    let smallest = docker("docker: { label: app=orders, port: 8000 }");
    let want = DockerSource {
        label: LabelMatch { key: "app".to_owned(), value: Some("orders".to_owned()) },
        port: port(8000),
        reach: Reach { address: AddressFrom::Auto, network: None },
        endpoints: vec![Endpoint::Default],
    };
    assert_eq!(smallest, want);
    assert!(service("docker: { label: app, port: 1 }").source.declared().is_empty());
    let full = docker(
        "docker: { label: app, port: \"${PORT}\", network: shop_default, address: network, endpoint: [\"unix:/run/a.sock\", \"unix:///run/b.sock\", \"tcp://10.0.0.7:2375\", \"tcp://[::1]:1\"] }",
    );
    let tcp = |host: &str, port| Endpoint::Tcp(HostPort { host: host.into(), port });
    let want = DockerSource {
        label: LabelMatch { key: "app".to_owned(), value: None },
        port: port(5000),
        reach: Reach { address: AddressFrom::Network, network: Some("shop_default".to_owned()) },
        endpoints: vec![
            Endpoint::Unix("/run/a.sock".into()),
            Endpoint::Unix("/run/b.sock".into()),
            tcp("10.0.0.7", 2375),
            tcp("::1", 1),
        ],
    };
    assert_eq!(full, want);
}

#[test]
fn a_container_has_every_default() {
    let want = ContainerSource {
        template: Template {
            image: "acme/thumbs:1.4".to_owned(),
            port: port(5000),
            command: None,
            environment: vec![],
            volumes: vec![],
            networks: vec![],
            labels: vec![],
            memory: None,
            nano_cpus: None,
        },
        replicas: 1,
        pull: Pull::Missing,
        stop_timeout: Duration::from_secs(10),
        reach: Reach::default(),
        endpoint: Endpoint::Default,
    };
    assert_eq!(container(""), want);
    let written_out = "memory: unlimited, cpus: unlimited, pull: missing, stop_timeout: 10s, address: auto, endpoint: default, replicas: 1";
    assert_eq!(container(written_out), want);
}

#[test]
fn each_key_of_a_container_reaches_the_configuration() {
    let typed = container(
        "command: \"gunicorn -w 2 'app:make()'\", environment: { LOG: info }, volumes: \"data:/data\", networks: [a, b_c], \
         labels: { team: shop }, memory: 256MiB, cpus: 1.5, pull: always, stop_timeout: 1m, address: published, \
         endpoint: \"tcp://h:1\", replicas: 3",
    );
    let want = ContainerSource {
        template: Template {
            image: "acme/thumbs:1.4".to_owned(),
            port: port(5000),
            command: Some(owned(&["gunicorn", "-w", "2", "app:make()"])),
            environment: pairs(&[("LOG", "info")]),
            volumes: owned(&["data:/data"]),
            networks: owned(&["a", "b_c"]),
            labels: pairs(&[("team", "shop")]),
            memory: Some(ByteSize::mib(256)),
            nano_cpus: NonZeroU64::new(1_500_000_000),
        },
        replicas: 3,
        pull: Pull::Always,
        stop_timeout: Duration::from_secs(60),
        reach: Reach { address: AddressFrom::Published, network: None },
        endpoint: Endpoint::Tcp(HostPort { host: "h".into(), port: 1 }),
    };
    assert_eq!(typed, want);
}

#[test]
fn tasks_of_a_swarm_service_are_named() {
    let Source::Swarm(swarm) =
        service("swarm: { service: shop_web, port: 80, network: n, endpoint: \"tcp://m:2\" }").source
    else {
        panic!("a swarm was asked for")
    };
    let want = SwarmSource {
        service: "shop_web".to_owned(),
        port: port(80),
        reach: Reach { address: AddressFrom::Auto, network: Some("n".to_owned()) },
        endpoint: Endpoint::Tcp(HostPort { host: "m".into(), port: 2 }),
    };
    assert_eq!(swarm, want);
}

#[test]
fn what_compose_writes_in_two_ways_means_the_same() {
    for (one, other) in [
        ("environment: { A: b, C: d }", "environment: [C=d, A=b]"),
        ("environment: { PORT: \"${PORT}\" }", "environment: [PORT]"),
        ("environment: { PORT: }", "environment: [PORT]"),
        ("environment: { A: true, B: 1, C: 1.5, D: \"\", E: off }", "environment: [A=true, B=1, C=1.5, D=, E=off]"),
        ("environment: { A: b=c }", "environment: [\"A=b=c\"]"),
        ("environment: { A: \"x${PORT}\" }", "environment: [\"A=x${PORT}\"]"),
        ("environment: { x-a: b }", "environment: [x-a=b]"),
        ("labels: { a: , b: c }", "labels: [b=c, a]"),
        ("command: a 'b c'", "command: [a, b c]"),
        ("command: [a, 4]", "command: a 4"),
        ("volumes: a1:/b", "volumes: [a1:/b]"),
    ] {
        assert_eq!(container(one), container(other), "{one} / {other}");
    }
}

#[test]
fn lines_of_the_environment_that_change_places_change_nothing() {
    assert_eq!(container("environment: { B: 1, A: 2 }, labels: { d: 1, c: 2 }").template.environment[0].0, "A");
    assert_eq!(container("environment: { B: 1, A: 2 }"), container("environment: { A: 2, B: 1 }"));
}

#[test]
fn relative_paths_begin_at_the_folder_of_their_file() {
    let folder = Folder::new("volumes");
    let volumes =
        "volumes: [\"./data:/data:ro\", \"../up:/up\", \"${DOT}:/dot\", \"./x${DOT}:/x\", \"/abs:/abs\", \"named:/n\"]";
    folder.write(
        "portway.yaml",
        &format!("include: more/*.yaml\nservices: {{ web: {{ container: {{ image: a, port: 1, {volumes} }} }} }}"),
    );
    folder.write(
        "more/b.yaml",
        "services: { b: { route: /b, backends: \"b:1\", autoscale: { max: 2, hook: { command: scale/now.sh a/b } } } }",
    );
    let mut environment = environment();
    environment.insert("DOT".to_owned(), "./dot".to_owned());
    let loaded = load::read(&folder.path("portway.yaml"), &environment).expect("it is right");
    let root = folder.0.display().to_string();
    let up = folder.0.parent().expect("it is not the root").display().to_string();
    let Source::Container(container) = &loaded.config.services[0].source else { panic!("a container was asked for") };
    let want = [
        format!("{root}/data:/data:ro"),
        format!("{up}/up:/up"),
        format!("{root}/dot:/dot"),
        format!("{root}/x./dot:/x"),
        "/abs:/abs".to_owned(),
        "named:/n".to_owned(),
    ];
    assert_eq!(container.template.volumes, want);
    let hook = loaded.config.services[1].autoscale.as_ref().and_then(|autoscale| autoscale.hook.clone());
    let way = hook.map(|hook| hook.way);
    assert_eq!(way, Some(HookWay::Command(vec![format!("{root}/more/scale/now.sh"), "a/b".to_owned()])));

    // Read elsewhere, what is printed still means the same.
    let shown = load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    let again = load::parse(&shown, "/elsewhere/portway.yaml", &environment).expect("it is right");
    assert!(same(&again.config, &loaded.config), "{shown}");
    assert!(shown.contains("/${DOT}:/dot") && shown.contains("/./x${DOT}:/x"), "{shown}");
}

/// The keys of a service, and what is said about them. Its first line is line 3, its first column 5.
const CASES: [(&str, &str); 77] = [
    (
        "docker: {}",
        "3:13 `docker` of service `web` has no `label` (add, for example, `label: app=orders`)\n3:13 `docker` of service `web` has no `port` (add `port:`, the port that the containers listen on, inside)",
    ),
    (
        "docker: app=orders",
        "3:13 `docker` of service `web` must be a mapping such as { label: \"app=orders\", port: 8000 }, not text (write a mapping such as { label: \"app=orders\", port: 8000 })",
    ),
    (
        "docker: { labels: a, port: 1 }",
        "3:15 unknown key `labels` in `docker` of service `web` (did you mean `label`?)",
    ),
    (
        "docker: { label: a, port: 1, image: b }",
        "3:34 unknown key `image` in `docker` of service `web` (containers that Portway starts itself stand under `container:`)",
    ),
    (
        "docker: { label: app = orders, port: 1 }",
        "3:22 \"app = orders\" has spaces around its `=` (write it as app=orders)",
    ),
    (
        "docker: { label: app=, port: 1 }",
        "3:22 \"app=\" has no value that a container could have (for any value write app alone)",
    ),
    (
        "docker: { label: app=*, port: 1 }",
        "3:22 \"app=*\" has no value that a container could have (for any value write app alone)",
    ),
    ("docker: { label: \"=a\", port: 1 }", "3:22 \"=a\" has no name before its `=` (write one such as app=orders)"),
    (
        "docker: { label: a!=b, port: 1 }",
        "3:22 \"a!=b\" asks for containers without a label (write one that they have, such as app=orders)",
    ),
    (
        "docker: { label: \"app: orders\", port: 1 }",
        "3:22 \"app: orders\" has a colon and no `=` (write it as app=orders)",
    ),
    ("docker: { label: my app, port: 1 }", "3:22 \"my app\" has spaces in its name (write one such as app=orders)"),
    ("docker: { label: \"\", port: 1 }", "3:22 \"\" names no label (write one such as app=orders)"),
    (
        "docker: { label: { app: a }, port: 1 }",
        "3:22 `label` of `docker` of service `web` must be a label such as app=orders, or app for any value, not a mapping (write a label such as app=orders, or app for any value)",
    ),
    (
        "docker: { label: \"${SECRET} x=\", port: 1 }",
        "3:22 \"${SECRET} x=\" has spaces in its name (write one such as app=orders)",
    ),
    ("docker: { label: a, port: 0 }", "3:31 \"0\" is not a port (ports are 1 to 65535)"),
    ("docker: { label: a, port: 70000 }", "3:31 \"70000\" is not a port (ports are 1 to 65535)"),
    (
        "docker: { label: a, port: \"8080:5000\" }",
        "3:31 \"8080:5000\" says on which port of the host it is published (write the container's port alone: 5000)",
    ),
    (
        "docker: { label: a, port: \"127.0.0.1:8080:5000/tcp\" }",
        "3:31 \"127.0.0.1:8080:5000/tcp\" says on which port of the host it is published (write the container's port alone: 5000)",
    ),
    ("docker: { label: a, port: 5000/tcp }", "3:31 \"5000/tcp\" says more than a port (write it as 5000)"),
    (
        "docker: { label: a, port: 53/udp }",
        "3:31 \"53/udp\" is a UDP port (requests come over TCP; write the port that takes them)",
    ),
    (
        "docker: { label: a, port: http }",
        "3:31 \"http\" is not a port (write the number that it listens on, inside, such as 5000)",
    ),
    (
        "docker: { label: a, ports: [\"80:5000\"] }",
        "3:25 unknown key `ports` in `docker` of service `web` (did you mean `port`?)",
    ),
    (
        "docker: { label: a, port: 1, address: host }",
        "3:43 \"host\" is not one of the words here (write auto, published or network)",
    ),
    (
        "docker: { label: a, port: 1, address: published, network: n }",
        "warning 3:63 this network is never used: containers are reached at their published ports (remove it, or write `address: network`)",
    ),
    (
        "docker: { label: a, port: 1, network: \"a b\" }",
        "3:43 \"a b\" is not the name of a network (write the name that `docker network ls` shows, such as shop_default)",
    ),
    (
        "docker: { label: a, port: 1, endpoint: \"ssh://me@h\" }",
        "3:44 \"ssh://me@h\" is reached over ssh, which Portway does not speak (let a socket proxy there listen on tcp)",
    ),
    (
        "docker: { label: a, port: 1, endpoint: \"https://h:2376\" }",
        "3:44 \"https://h:2376\" needs TLS, which is not in this version of Portway yet (use tcp:// inside of a private network)",
    ),
    ("docker: { label: a, port: 1, endpoint: \"tcp://h\" }", "3:44 \"tcp://h\" has no port (write it as tcp://h:2375)"),
    (
        "docker: { label: a, port: 1, endpoint: /run/d.sock }",
        "3:44 \"/run/d.sock\" has no scheme (write it as unix:///run/d.sock)",
    ),
    ("docker: { label: a, port: 1, endpoint: \"h:2375\" }", "3:44 \"h:2375\" has no scheme (write it as tcp://h:2375)"),
    (
        "docker: { label: a, port: 1, endpoint: npipe }",
        "3:44 \"npipe\" is not where an engine listens (write unix:///var/run/docker.sock or tcp://10.0.0.7:2375)",
    ),
    (
        "docker: { label: a, port: 1, endpoint: [\"tcp://h:1\", \"tcp://h:1\"] }",
        "3:58 the engine tcp://h:1 is here twice (again here; keep one of them)",
    ),
    (
        "docker: { label: a, port: 1, endpoint: [] }",
        "3:13 `endpoint` is an empty list (leave it out for the local engine)",
    ),
    (
        "container: {}",
        "3:16 `container` of service `web` has no `image` (add, for example, `image: acme/thumbs:1.4`)\n3:16 `container` of service `web` has no `port` (add `port:`, the port that it listens on, inside)",
    ),
    (
        "container: acme/thumbs:1.4",
        "3:16 `container` of service `web` must be a mapping such as { image: \"acme/thumbs:1.4\", port: 5000 }, not text (write a mapping such as { image: \"acme/thumbs:1.4\", port: 5000 })",
    ),
    (
        "container: { build: ., port: 1 }",
        "3:18 unknown key `build` in `container` of service `web` (Portway builds nothing: build the image with `docker build -t NAME` and write `image: NAME`)",
    ),
    (
        "container: { image: a, port: 1, restart: always }",
        "3:37 unknown key `restart` in `container` of service `web` (leave it out: Portway replaces a replica that ends)",
    ),
    (
        "container: { image: a, port: 1, env: {} }",
        "3:37 unknown key `env` in `container` of service `web` (did you mean `environment`?)",
    ),
    (
        "container: { image: a, port: 1, mem_limit: 1g }",
        "3:37 unknown key `mem_limit` in `container` of service `web` (did you mean `memory`?)",
    ),
    (
        "container: { image: a, port: 1, scale: 3 }",
        "3:37 unknown key `scale` in `container` of service `web` (did you mean `replicas`?)",
    ),
    (
        "container: { image: a, port: 1, healthcheck: {} }",
        "3:37 unknown key `healthcheck` in `container` of service `web` (it belongs to the service: `health:` beside `container:`)",
    ),
    (
        "container: { image: Acme/Thumbs, port: 1 }",
        "3:25 \"Acme/Thumbs\" has upper case in its name (write it as acme/thumbs)",
    ),
    (
        "container: { image: \"a:${EMPTY}\", port: 1 }",
        "3:25 \"a:${EMPTY}\" ends in an empty tag (write one such as acme/thumbs:1.4)",
    ),
    (
        "container: { image: a, port: 1, command: \"\" }",
        "3:46 this command has no words (leave `command` out for the image's own)",
    ),
    (
        "container: { image: a, port: 1, command: \"a 'b\" }",
        "3:46 a ' in this command is never closed (close it, or write the command as a list of its words)",
    ),
    (
        "container: { image: a, port: 1, command: a && b }",
        "warning 3:46 no shell reads this command: `&&` is an argument like any other (for a shell write [sh, -c, '…'])",
    ),
    (
        "container: { image: a, port: 1, command: { a: b } }",
        "3:46 `command` of `container` of service `web` must be a command such as gunicorn app:app, or a list of its words, not a mapping (write a command such as gunicorn app:app, or a list of its words)",
    ),
    (
        "container: { image: a, port: 1, environment: A=b }",
        "3:50 `environment` of `container` of service `web` must be a mapping such as { LOG_LEVEL: debug }, or a list such as [LOG_LEVEL=debug], not text (write a mapping such as { LOG_LEVEL: debug }, or a list such as [LOG_LEVEL=debug])",
    ),
    (
        "container: { image: a, port: 1, environment: [{ A: b }] }",
        "3:51 `environment` of `container` of service `web` is a list here, and each entry must be text (write it as NAME=value, or remove all the dashes)",
    ),
    (
        "container: { image: a, port: 1, environment: [A = b] }",
        "3:51 the name of the variable \"A \" has a space beside it (write it as A=…)",
    ),
    (
        "container: { image: a, port: 1, environment: [\"=b\"] }",
        "3:51 the name of the variable \"\" is empty (write one such as LOG_LEVEL)",
    ),
    (
        "container: { image: a, port: 1, environment: [A=1, A=2] }",
        "3:56 the variable `A` is here twice (again here; keep one of them)",
    ),
    (
        "container: { image: a, port: 1, environment: [NOPE] }",
        "warning 3:51 the variable `NOPE` is not set, so the container does not get it (set it where Portway runs, give it a value here, or remove it)",
    ),
    (
        "container: { image: a, port: 1, environment: [\"A=${NOPE}\"] }",
        "3:51 the variable `NOPE` is not set (set it, or write ${NOPE:-default})",
    ),
    (
        "container: { image: a, port: 1, environment: [\"${SECRET}=1\"] }",
        "3:51 the name in \"${SECRET}=1\" comes from a variable (write the name itself: NAME=${VALUE})",
    ),
    (
        "container: { image: a, port: 1, environment: { my.name: } }",
        "3:52 \"my.name\" has no value, and cannot be the name of a variable of Portway's environment (write NAME=value)",
    ),
    (
        "container: { image: a, port: 1, environment: { A: [b] } }",
        "3:55 `A` of `environment` of `container` of service `web` must be text, not a list (write text)",
    ),
    (
        "container: { image: a, port: 1, labels: { portway.service: x } }",
        "3:47 the label \"portway.service\" belongs to Portway, which finds its replicas by it (write another name)",
    ),
    (
        "container: { image: a, port: 1, volumes: [/data] }",
        "3:47 \"/data\" does not say where (write SOURCE:TARGET, such as data:/data)",
    ),
    (
        "container: { image: a, port: 1, volumes: [data] }",
        "3:47 \"data\" does not say where (write SOURCE:TARGET, such as data:/var/lib/app)",
    ),
    (
        "container: { image: a, port: 1, volumes: [\"~/a:/a\"] }",
        "3:47 \"~/a:/a\" begins with `~`, which a shell would replace (write ${HOME}, or the whole path)",
    ),
    (
        "container: { image: a, port: 1, volumes: [\"a/b:/a\"] }",
        "3:47 \"a/b:/a\" begins neither with a path nor with the name of a volume (for a path write ./a/b)",
    ),
    (
        "container: { image: a, port: 1, volumes: [\"aa:b\"] }",
        "3:47 \"aa:b\" has no absolute path inside of the container (write SOURCE:TARGET, such as data:/var/lib/app)",
    ),
    (
        "container: { image: a, port: 1, volumes: [\"aa:/b:readonly\"] }",
        "3:47 \"aa:/b:readonly\" ends in no mode that there is (modes are ro, rw, z and Z)",
    ),
    (
        "container: { image: a, port: 1, volumes: [\"aa:/\"] }",
        "3:47 \"aa:/\" covers all of the container (mount it on a folder, such as /data)",
    ),
    (
        "container: { image: a, port: 1, networks: host }",
        "3:47 on the host's network, two replicas could not listen on one port (leave it out: Portway publishes the port of each replica)",
    ),
    (
        "container: { image: a, port: 1, memory: 4MiB }",
        "3:45 \"4MiB\" is less than 6MiB, the least that Docker takes (write a size such as 256MiB, or unlimited)",
    ),
    ("container: { image: a, port: 1, memory: 512m }", "3:45 \"512m\" has an unknown unit (write it as 512MiB)"),
    (
        "container: { image: a, port: 1, memory: 512 }",
        "3:45 \"512\" needs a unit, e.g. 512KiB (units are B, KiB, MiB, GiB, and kB, MB, GB for powers of ten)",
    ),
    (
        "container: { image: a, port: 1, cpus: 0 }",
        "3:43 \"0\" leaves no processor time at all (write a number such as 0.5, or unlimited)",
    ),
    (
        "container: { image: a, port: 1, cpus: 0.001 }",
        "3:43 \"0.001\" is less than a hundredth of a core, the least that Docker takes (write a number such as 0.5, or unlimited)",
    ),
    ("container: { image: a, port: 1, cpus: 500m }", "3:43 \"500m\" is not a number of cores (write it as 0.5)"),
    (
        "container: { image: a, port: 1, pull: if_not_present }",
        "3:43 \"if_not_present\" is not one of the words here (did you mean `missing`?)",
    ),
    (
        "container: { image: a, port: 1, replicas: 20000 }",
        "3:47 \"20000\" is not between 0 and 10000 (write a number such as 1)",
    ),
    (
        "image: a\nport: 80",
        "3:5 unknown key `image` in service `web` (it belongs below `container:`)\n4:5 unknown key `port` in service `web` (it belongs below `container:` or `docker:`; a backend is host:port)",
    ),
    (
        "swarm: { port: 80 }",
        "3:12 `swarm` of service `web` has no `service` (add `service:`, the name that `docker service ls` shows)",
    ),
    (
        "swarm: { service: web, port: 80, replicas: 3 }",
        "3:38 unknown key `replicas` in `swarm` of service `web` (the swarm has that number; for Portway to set it, write `autoscale:`)",
    ),
];

#[test]
fn each_mistake_has_its_message() {
    for (keys, want) in CASES {
        assert_eq!(complaints(&with_service(keys)).join("\n"), want, "{keys}");
    }
}

#[test]
fn an_unreadable_source_is_not_said_to_be_missing_as_well() {
    for keys in ["docker: 5", "container: []", "swarm: a", "kubernetes: {}", "contaner: { image: a }", "image: a"] {
        let text = format!("services:\n  web: {{ {keys}, timeout: 5 }}\n");
        let said = complaints(&text);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].contains("\"5\" needs a unit"), "{said:?}");
    }
}

#[test]
fn every_mistake_of_a_service_is_said_at_once() {
    let said = complaints(
        "services:\n  web: { container: { image: A, port: x, cpus: 0, memory: 1 }, timeout: 5, autoscale: { min: 3 } }\n",
    );
    assert_eq!(said.len(), 6, "{said:#?}");
}

#[test]
fn sources_cannot_stand_in_defaults() {
    for (source, column) in [
        ("docker: { label: a, port: 1 }", 21),
        ("container: { image: a, port: 1 }", 24),
        ("swarm: { service: a, port: 1 }", 20),
    ] {
        let key = source.split(':').next().expect("it has a key");
        let said = complaints(&format!("defaults: {{ {source} }}\n{}", with_service("")));
        let want = format!(
            "1:{column} `{key}` cannot stand in `defaults`: no two services share one (write it in each service)"
        );
        assert_eq!(said, [want]);
    }
}

#[test]
fn a_docker_host_that_cannot_be_used_is_said_to_be_that() {
    let said = |host: &str, keys: &str| {
        let mut environment = environment();
        environment.insert("DOCKER_HOST".to_owned(), host.to_owned());
        let loaded = load::parse(&with_service(keys), "p", &environment).expect("it is right");
        loaded.warnings.list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let plain = "docker: { label: a, port: 1 }";
    let want = "p:3:13 `DOCKER_HOST` names an engine that Portway cannot use: engines are not reached over ssh: let a socket proxy listen on tcp, or run Portway beside the engine (set another, or write `endpoint:` here)";
    assert_eq!(said("ssh://me@secret.example", plain), [want]);
    for (host, keys) in [
        ("", plain),
        ("unix:///run/d.sock", plain),
        ("tcp://h:2375", plain),
        ("ssh://h", "docker: { label: a, port: 1, endpoint: \"tcp://h:1\" }"),
        ("ssh://h", "backends: \"a:1\""),
    ] {
        assert!(said(host, keys).is_empty(), "{host} {keys}");
    }
}

#[test]
fn a_secret_of_a_container_is_never_printed() {
    let text = with_service(
        "container: { image: a, port: 1, environment: [SECRET, \"URL=db://x:${SECRET}@y\"], labels: { a: \"${SECRET}\" }, command: \"run ${SECRET}\" }",
    );
    let loaded = load(&text);
    let Source::Container(container) = &loaded.config.services[0].source else { panic!("a container was asked for") };
    assert_eq!(container.template.environment, pairs(&[("SECRET", "hunter2"), ("URL", "db://x:hunter2@y")]));
    assert_eq!(container.template.command, Some(owned(&["run", "hunter2"])));
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
    for shown in [show::as_typed(&loaded.raw), show::with_defaults(&loaded.raw, &loaded.config)] {
        let text = load::to_yaml(&shown);
        assert!(text.contains("SECRET: ${SECRET}") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn show_prints_what_is_in_force() {
    let loaded = load(&with_service(
        "container: { image: a, port: 1, command: a 'b c', environment: [A=b], labels: [c], cpus: 0.5, volumes: \"./d:/d\" }",
    ));
    let typed = load::to_yaml(&show::as_typed(&loaded.raw));
    let folder = std::env::current_dir().expect("tests run somewhere").display().to_string();
    for part in [
        "command:\n      - a\n      - b c\n".to_owned(),
        "environment:\n        A: b\n".to_owned(),
        "labels:\n        c: ''\n".to_owned(),
        "cpus: 0.5\n".to_owned(),
        format!("volumes:\n      - {folder}/d:/d\n"),
    ] {
        assert!(typed.contains(&part), "{part}\n{typed}");
    }
    let long = load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    for part in [
        "memory: unlimited\n",
        "pull: missing\n",
        "stop_timeout: 10s\n",
        "address: auto\n",
        "endpoint: default\n",
        "replicas: 1\n",
        "autoscale: false\n",
    ] {
        assert!(long.contains(part), "{part}\n{long}");
    }
}
