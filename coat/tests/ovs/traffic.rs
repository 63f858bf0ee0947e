//! What runs between endpoints: numbered packets, echoes, connections.

use mose_coat::{EndpointSpec, Route};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Bed, Host};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
pub(crate) const PORT: u16 = 7000;

pub(crate) fn spec(name: &str, address: Ipv4Addr) -> EndpointSpec {
    EndpointSpec::new(name, ipnet::Ipv4Net::new(address, 24).unwrap())
}

pub(crate) fn at_endpoint(name: &str) -> Route {
    Route::Endpoint(name.to_owned())
}

pub(crate) fn via(host: &Host) -> Route {
    Route::Tunnel(host.name.clone())
}

/// A client on the first host, a service on the second, the others knowing the way.
pub(crate) async fn client_and_service(bed: &Bed) {
    let (a, b) = (&bed.hosts[0], &bed.hosts[1]);
    a.attach(&spec("client", CLIENT), 1).await;
    b.attach(&spec("service", SERVICE), 1).await;
    for host in &bed.hosts {
        let to_client = if host.name == a.name { at_endpoint("client") } else { via(a) };
        let to_service = if host.name == b.name { at_endpoint("service") } else { via(b) };
        host.route(CLIENT, to_client, 1).await;
        host.route(SERVICE, to_service, 1).await;
    }
}

/// Answers every TCP byte with the same.
pub(crate) async fn echo(host: &Host, endpoint: &str) {
    let listener = host.place.inside(endpoint, || TcpListener::bind(("0.0.0.0", PORT)).unwrap()).await;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

pub(crate) async fn connect(host: &Host, endpoint: &str) -> TcpStream {
    let to = SocketAddr::from((SERVICE, PORT));
    let stream = host
        .place
        .inside(endpoint, move || TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap())
        .await;
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends numbers over UDP, one a millisecond.
pub(crate) struct Numbers {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) thread: JoinHandle<()>,
}

impl Numbers {
    pub(crate) async fn start(host: &Host, endpoint: &str) -> Self {
        let socket = host.place.inside(endpoint, || UdpSocket::bind("0.0.0.0:0").unwrap()).await;
        socket.connect((SERVICE, PORT)).unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = counter.load(Ordering::Relaxed);
                socket.send(&number.to_be_bytes()).unwrap();
                counter.store(number + 1, Ordering::Relaxed);
                // Slowly at first: the kernel keeps about a hundred packets while it asks for a MAC.
                std::thread::sleep(Duration::from_millis(if number < 20 { 20 } else { 1 }));
            }
        });
        Self { stop, sent, thread }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until they arrive: until the endpoints know each other's MAC and the devices are up.
    pub(crate) async fn arrive(&self, receiver: &Receiver) {
        let begin = Instant::now();
        while receiver.got.load(Ordering::Relaxed) == 0 {
            assert!(begin.elapsed() < Duration::from_secs(5), "nothing arrives");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        eprintln!("FIGURE first packet after {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    }

    /// Waits until so many more have been sent.
    pub(crate) async fn more(&self, count: u64) {
        let until = self.sent() + count;
        while self.sent() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Receives numbers over UDP, in the order of arrival.
pub(crate) struct Receiver {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) thread: JoinHandle<Vec<u64>>,
    pub(crate) got: Arc<AtomicU64>,
}

impl Receiver {
    pub(crate) async fn start(host: &Host, endpoint: &str) -> Self {
        let socket = host.place.inside(endpoint, || UdpSocket::bind(("0.0.0.0", PORT)).unwrap()).await;
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (stop, got) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&got));
        let thread = std::thread::spawn(move || {
            let mut numbers = Vec::new();
            let mut buffer = [0; 8];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(8) => {
                        numbers.push(u64::from_be_bytes(buffer));
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    // Only when all is quiet.
                    Err(_) if stopped.load(Ordering::Relaxed) => return numbers,
                    _ => {}
                }
            }
        });
        Self { stop, thread, got }
    }

    pub(crate) fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(crate) fn out_of_order(numbers: &[u64]) -> usize {
    numbers.windows(2).filter(|pair| pair[1] < pair[0]).count()
}

pub(crate) fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
