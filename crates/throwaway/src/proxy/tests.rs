use std::time::Instant;

use super::*;

/// A server that sends back what it gets and tells how much that was, behind a proxy.
async fn echo() -> (Proxy, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(size @ 1..) = socket.read(&mut buffer).await {
                    count.send_modify(|count| *count += size);
                    if socket.write_all(&buffer[..size]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (proxy, counted)
}

async fn open(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends `hello` and returns what comes back of it.
async fn hello(socket: &mut TcpStream) -> io::Result<[u8; 5]> {
    socket.write_all(b"hello").await?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn is_silent(socket: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(100), socket.read_u8()).await.is_err()
}

#[tokio::test]
async fn without_a_fault_everything_passes() {
    let (proxy, _) = echo().await;
    assert_eq!(&hello(&mut open(&proxy).await).await.unwrap(), b"hello");
}

#[tokio::test]
async fn latency_makes_each_way_longer() {
    let (proxy, _) = echo().await;
    proxy.set(Fault::Latency(Duration::from_millis(60)));
    let since = Instant::now();
    hello(&mut open(&proxy).await).await.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn what_a_stall_held_back_arrives_after_it() {
    let (proxy, mut counted) = echo().await;
    let mut socket = open(&proxy).await;
    hello(&mut socket).await.unwrap();
    proxy.set(Fault::Stall);
    socket.write_all(b"later").await.unwrap();
    assert!(is_silent(&mut socket).await);
    assert_eq!(*counted.borrow_and_update(), 5);
    proxy.set(Fault::None);
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"later");
}

#[tokio::test]
async fn a_reset_ends_open_connections_and_new_ones() {
    let (proxy, _) = echo().await;
    let mut socket = open(&proxy).await;
    hello(&mut socket).await.unwrap();
    proxy.set(Fault::Reset);
    assert_eq!(socket.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(hello(&mut open(&proxy).await).await.is_err());
    proxy.set(Fault::None);
    hello(&mut open(&proxy).await).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_as_if_nobody_listened() {
    let (proxy, _) = echo().await;
    let mut socket = open(&proxy).await;
    hello(&mut socket).await.unwrap();
    proxy.set(Fault::Refuse);
    assert!(socket.read_u8().await.is_err());
    while TcpStream::connect(proxy.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    proxy.set(Fault::None);
    let mut again = loop {
        match TcpStream::connect(proxy.address()).await {
            Ok(socket) => break socket,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    hello(&mut again).await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_belongs_to_a_request_that_arrived() {
    let (proxy, mut counted) = echo().await;
    let mut socket = open(&proxy).await;
    hello(&mut socket).await.unwrap();
    proxy.set(Fault::DropReplies);
    socket.write_all(b"hello").await.unwrap();
    counted.wait_for(|count| *count == 10).await.unwrap();
    assert!(is_silent(&mut socket).await);
    proxy.set(Fault::None);
    assert!(socket.read_u8().await.is_err(), "it is out of step and so is not used again");
}

#[tokio::test]
async fn a_lost_request_does_not_arrive() {
    let (proxy, counted) = echo().await;
    let mut socket = open(&proxy).await;
    hello(&mut socket).await.unwrap();
    proxy.set(Fault::DropRequests);
    socket.write_all(b"hello").await.unwrap();
    assert!(is_silent(&mut socket).await);
    assert_eq!(*counted.borrow(), 5);
}

#[tokio::test]
async fn slices_arrive_whole() {
    let (proxy, _) = echo().await;
    proxy.set(Fault::Slice(1));
    assert_eq!(&hello(&mut open(&proxy).await).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_throttled_connection_takes_its_time() {
    let (proxy, _) = echo().await;
    proxy.set(Fault::Throttle(40));
    let since = Instant::now();
    assert_eq!(&hello(&mut open(&proxy).await).await.unwrap(), b"hello");
    assert!(since.elapsed() >= Duration::from_millis(150), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_cut_comes_in_the_middle_of_a_reply() {
    let (proxy, _) = echo().await;
    let mut socket = open(&proxy).await;
    proxy.set(Fault::CutAfter(3));
    socket.write_all(b"hello").await.unwrap();
    let mut answer = Vec::new();
    let error = socket.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn open_connections_stay_when_new_ones_are_led_elsewhere() {
    let ((proxy, at_first), (other, elsewhere)) = (echo().await, echo().await);
    let mut open_before = open(&proxy).await;
    hello(&mut open_before).await.unwrap();
    proxy.lead_to(other.address());
    hello(&mut open(&proxy).await).await.unwrap();
    hello(&mut open_before).await.unwrap();
    assert_eq!((*at_first.borrow(), *elsewhere.borrow()), (10, 5));
}

#[tokio::test]
async fn open_connections_are_silent_and_not_closed_while_new_ones_work() {
    let (proxy, _) = echo().await;
    let mut open_before = open(&proxy).await;
    hello(&mut open_before).await.unwrap();
    proxy.silence_open();
    open_before.write_all(b"hello").await.unwrap();
    assert!(is_silent(&mut open_before).await);
    hello(&mut open(&proxy).await).await.unwrap();
    proxy.set(Fault::Reset);
    assert!(is_silent(&mut open_before).await, "nobody hears a host that has vanished");
    drop(proxy);
    assert!(open_before.read_u8().await.is_err());
}
