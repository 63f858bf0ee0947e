//! What outlives an agent or a switch, and what is left when an endpoint goes.

use mose_coat::{Change, CoatError, Datapath, Overlay, OvsConfig, OvsOverlay, Route};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{ALONE, Bed, possible};
use crate::traffic::{CLIENT, SERVICE, at_endpoint, client_and_service, connect, echo, spec, via};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_reads_everything_back_and_a_stale_epoch_is_refused() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bed = Bed::new(2).await;
    client_and_service(&bed).await;
    bed.hosts[1].route(SERVICE, Route::Hold, 5).await;
    bed.hosts[1].route(SERVICE, at_endpoint("service"), 6).await;
    let other = Ipv4Addr::new(10, 77, 0, 30);
    bed.hosts[1].route(other, Route::Hold, 3).await;
    let state = |o: Arc<OvsOverlay>| async move { (o.endpoints().await.unwrap(), o.routes().await.unwrap()) };
    let before = bed.hosts[1].with(state).await;
    assert_eq!((before.0.len(), before.1.len()), (1, 3));
    bed.hosts[1].stop_overlay().await;
    let config = bed.hosts[1].config();
    bed.hosts[1].start_overlay(config).await;
    assert_eq!(bed.hosts[1].with(state).await, before);

    let b = &bed.hosts[1];
    assert_eq!(b.route(SERVICE, Route::Hold, 5).await, Change::Stale { current: 6 });
    assert_eq!(b.route(SERVICE, at_endpoint("service"), 6).await, Change::Unchanged);
    assert_eq!(b.route(CLIENT, via(&bed.hosts[0]), 1).await, Change::Unchanged, "tunnels are known again");
    assert_eq!(b.with(state).await, before);
    let attached = b.attach(&spec("service", SERVICE), 1).await;
    assert_eq!(attached, before.0[0]);
    let wrong = spec("service", Ipv4Addr::new(10, 77, 0, 21));
    let error = b.with(|o| async move { o.attach(&wrong, 9).await.unwrap_err() }).await;
    assert!(matches!(error, CoatError::OtherSpec { .. }), "{error}");
    let error = b.with(|o| async move { o.route(other, at_endpoint("none"), 9).await.unwrap_err() }).await;
    assert!(error.to_string().contains("attach the endpoint first"), "{error}");
    // And packets still pass.
    echo(b, "service").await;
    let mut stream = connect(&bed.hosts[0], "client").await;
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_leaves_nothing_and_spares_what_is_not_ours() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    let a = &bed.hosts[0];
    let listed = || {
        let run =
            a.place.block(|| std::process::Command::new("ip").args(["-o", "link"]).output().unwrap().stdout);
        async { String::from_utf8(run.await).unwrap() }
    };
    let count = |text: &str| text.lines().count();
    let before = listed().await;
    let endpoint = a.attach(&spec("service", SERVICE), 1).await;
    a.route(SERVICE, at_endpoint("service"), 1).await;
    assert_eq!(count(&listed().await), count(&before) + 1);
    assert!(endpoint.host_device.len() <= 15);
    a.with(|o| async move { o.detach("service").await.unwrap() }).await;
    a.with(|o| async move { o.detach("service").await.unwrap() }).await;
    assert_eq!(count(&listed().await), count(&before));
    assert!(!a.place.block(move || endpoint.netns.exists()).await);
    a.with(|o| async move {
        assert!(o.endpoints().await.unwrap().is_empty());
        assert!(o.routes().await.unwrap().is_empty(), "no route to an endpoint that is gone");
    })
    .await;
    // A namespace that this overlay did not make.
    a.place
        .block(|| {
            for arguments in
                [&["netns", "add", "theirs"][..], &["-n", "theirs", "link", "add", "d0", "type", "veth"]]
            {
                assert!(std::process::Command::new("ip").args(arguments).status().unwrap().success());
            }
        })
        .await;
    let taken = spec("theirs", SERVICE);
    let error = a.with(|o| async move { o.attach(&taken, 1).await.unwrap_err() }).await;
    assert!(matches!(error, CoatError::ForeignNamespace { .. }), "{error}");
    a.with(|o| async move { o.detach("theirs").await.unwrap() }).await;
    assert!(a.place.block(|| std::path::Path::new("/run/netns/theirs").exists()).await);
    // Tunnels go as well.
    let before = listed().await;
    a.with(|o| async move { o.remove_tunnel("b").await.unwrap() }).await;
    assert_eq!(count(&listed().await), count(&before) - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_is_away_is_named_and_its_flows_are_put_back() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bed = Bed::without_overlay(2).await;
    let config = bed.hosts[0].config();
    let error = bed.hosts[0].place.run(OvsOverlay::start(config)).await.err().unwrap().to_string();
    assert!(error.contains("db.sock") && error.contains("is ovsdb-server running?"), "{error}");
    bed.hosts[0].start_ovsdb().await;
    let config = OvsConfig { port_deadline: Duration::from_millis(300), ..bed.hosts[0].config() };
    let error = bed.hosts[0].place.run(OvsOverlay::start(config)).await.err().unwrap().to_string();
    assert!(error.contains("br-mose.mgmt") && error.contains("is ovs-vswitchd running?"), "{error}");
    drop(bed);

    let mut bed = Bed::new(2).await;
    client_and_service(&bed).await;
    echo(&bed.hosts[1], "service").await;
    let mut stream = connect(&bed.hosts[0], "client").await;
    let healthy = bed.hosts[1].with(|o| async move { o.health().await }).await.unwrap();
    let recorded = healthy.database.unwrap();
    assert_eq!(
        (recorded.datapath, recorded.ports),
        (Some(Datapath::Userspace), 2),
        "an endpoint and a tunnel"
    );
    assert!(recorded.faulty.is_empty() && healthy.switch.unwrap() > 0);
    bed.hosts[1].stop_vswitchd();
    let b = &bed.hosts[1];
    let deadline = Instant::now() + Duration::from_secs(5);
    let error = loop {
        match b.with(|o| async move { o.route(SERVICE, Route::Hold, 2).await }).await {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(Instant::now() < deadline, "the loss of the switch goes unnoticed"),
        }
    };
    assert!(error.contains("is ovs-vswitchd running?"), "{error}");
    let ailing = b.with(|o| async move { o.health().await }).await.unwrap();
    assert!(ailing.database.is_ok() && ailing.switch.is_err(), "{ailing:?}");
    bed.hosts[1].start_vswitchd().await;
    // The connection lives on over its retransmissions, once the flows are back.
    stream.write_all(b"x").unwrap();
    assert_eq!(tokio::task::spawn_blocking(move || stream.read(&mut [0; 8]).unwrap()).await.unwrap(), 1);
}
