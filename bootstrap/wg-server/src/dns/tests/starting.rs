//! named where `wg-server named` starts it.

use super::*;

#[test]
fn a_starter_of_its_own_starts_named_ends_it_with_wg_server_and_is_believed_by_its_user_alone() {
    alone_with_users("dns::tests::starting::inside_starter");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_starter() {
    let mut setup = setup("nxdomain");
    let socket_path = setup.dir.path().join("socket");
    setup.config.runtime_dir = setup.dir.path().into();
    setup.config.dns.named_socket_path = Some(socket_path.clone());
    let (root, stop) = (nix::unistd::geteuid(), CancellationToken::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        std::fs::create_dir_all(setup.dir.path().join("named/work")).unwrap();
        std::fs::create_dir_all(setup.dir.path().join("log")).unwrap();
        let lists = AllowLists::load(&setup.config).unwrap();
        let dir = setup.dir.path().join("named");
        let ports = Ports { forwarder: ([127, 0, 0, 1], 5353).into(), statistics: statistics::free_port().unwrap() };
        for file in named_conf::files(&setup.config, lists.all(), &dir, &Secret::random(), ports) {
            std::fs::write(dir.join(file.name), file.text).unwrap();
        }
        let listener = starter::bind(&socket_path).unwrap();
        let started = async {
            let other = nix::unistd::Uid::from_raw(root.as_raw() + 1);
            let error = format!("{:#}", starter::Life::begin(&socket_path, other).await.unwrap_err());
            assert!(error.contains("wg-named.service") && error.contains("expected the UID"), "{error}");

            let mut life = starter::Life::begin(&socket_path, root).await.unwrap();
            let pid = life.pid();
            let is_alive = || std::path::Path::new(&format!("/proc/{pid}")).exists();
            assert!(is_alive());
            life.kill().await.unwrap();
            assert_eq!(life.wait().await.unwrap().to_string(), "signal: 9 (SIGKILL)");

            let mut life = starter::Life::begin(&socket_path, root).await.unwrap();
            life.terminate().await.unwrap();
            assert_ne!(life.wait().await.unwrap().to_string(), "signal: 9 (SIGKILL)");

            // A wg-server that is killed says nothing.
            let life = starter::Life::begin(&socket_path, root).await.unwrap();
            let path = format!("/proc/{}", life.pid());
            drop(life);
            let end = Instant::now() + Duration::from_secs(10);
            while std::path::Path::new(&path).exists() {
                assert!(Instant::now() < end, "named outlives wg-server");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            never = starter::serve(&listener, &setup.config, root, &stop) => match never {},
            () = started => {}
        }
        let mut broken = setup.config.clone();
        broken.dns.named_path = "/no/such/named".into();
        let refused = async {
            let error = format!("{:#}", starter::Life::begin(&socket_path, root).await.unwrap_err());
            assert!(error.starts_with("start /no/such/named: No such file"), "{error}");
        };
        tokio::select! {
            never = starter::serve(&listener, &broken, root, &stop) => match never {},
            () = refused => {}
        }
        let not_ours = async {
            let error = format!("{:#}", starter::Life::begin(&socket_path, root).await.unwrap_err());
            assert!(error.contains("unexpected answer None"), "{error}");
        };
        let other = nix::unistd::Uid::from_raw(root.as_raw() + 1);
        tokio::select! {
            never = starter::serve(&listener, &setup.config, other, &stop) => match never {},
            () = not_ours => {}
        }
        drop(listener);
        let error = format!("{:#}", starter::Life::begin(&socket_path, root).await.unwrap_err());
        assert!(error.contains("Connection refused"), "{error}");
    });
}
