//! The PROXY protocol, versions 1 and 2: a load balancer's word on whom it speaks for
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! It is read before anything else, TLS included, and not one byte more than the header is taken
//! from the socket. Version 1 may have 107 bytes, as its text says. Version 2 may have 16 and
//! another 536, what the protocol's text calls safe; longer ones are refused.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest line of version 1 (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// What version 2 begins with, up to and including its length (section 2.2).
const V2_FIXED_BYTES: usize = 16;
/// What may follow it: addresses and additional values.
const V2_REST_BYTES_MAX: usize = 536;

/// Why a connection that must begin with a header does not.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("the connection broke off inside its PROXY header")]
    Io(#[from] io::Error),
    #[error("it does not begin with a PROXY header")]
    Missing,
    #[error("its PROXY header is longer than it may be")]
    TooLong,
    #[error("its PROXY header is malformed")]
    Malformed,
}

/// Whether connections from this address must begin with a header.
pub(super) fn is_expected(from: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    from.iter().any(|network| network.contains(&peer))
}

/// Reads the header. Gives the caller's address, or nothing if the header tells none: a health
/// check by the load balancer itself (`LOCAL`, `UNKNOWN`) or a family without addresses of IP.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        read_v2(stream, &mut header).await?;
        return parse_v2(&header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(ProxyError::Missing);
    }
    read_v1(stream, &mut header).await?;
    parse_v1(&header)
}

/// Its length is at a fixed place.
async fn read_v2(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), ProxyError> {
    let begun = header.len();
    header.resize(V2_FIXED_BYTES, 0);
    stream.read_exact(&mut header[begun..]).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > V2_REST_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    header.resize(V2_FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[V2_FIXED_BYTES..]).await?;
    Ok(())
}

/// Its end is a line's end: the socket is looked at first, and only what belongs to the line is
/// taken from it.
async fn read_v1(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), ProxyError> {
    while header.last() != Some(&b'\n') {
        let mut ahead = [0; V1_BYTES_MAX];
        let ahead = &mut ahead[..V1_BYTES_MAX - header.len()];
        if ahead.is_empty() {
            return Err(ProxyError::TooLong);
        }
        let seen = stream.peek(ahead).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        let begun = header.len();
        header.resize(begun + end.map_or(seen, |end| end + 1), 0);
        stream.read_exact(&mut header[begun..]).await?;
    }
    Ok(())
}

fn parse_v1(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let parsed = v1::Header::try_from(header).map_err(|_| ProxyError::Malformed)?;
    // The parser stops at the first end of a line; ours is the last byte.
    if parsed.header.len() != header.len() {
        return Err(ProxyError::Malformed);
    }
    Ok(match parsed.addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

fn parse_v2(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let parsed = v2::Header::try_from(header).map_err(|_| ProxyError::Malformed)?;
    Ok(match (parsed.command, parsed.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// What a connection gives that begins with these bytes, and what is left of them.
    async fn reads(pieces: &[&[u8]]) -> (Result<Option<SocketAddr>, ProxyError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        caller.set_nodelay(true).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let sending = tokio::spawn(async move {
            for piece in pieces {
                caller.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let read = read(&mut stream).await;
        sending.await.unwrap();
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
        (read, left)
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];

    #[tokio::test]
    async fn both_versions_tell_the_caller_and_leave_the_rest() {
        let tls: &[u8] = b"\x16\x03\x01rest";
        for (header, caller) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\r\n".to_vec(), Some("192.0.2.1:12345")),
            (b"PROXY TCP6 2001:db8::1 ::1 12345 443\r\n".to_vec(), Some("[2001:db8::1]:12345")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n".to_vec(), None),
            (v2(1, 0x11, &V4), Some("192.0.2.1:12345")),
            (v2(1, 0x11, &[&V4[..], &[4, 0, 1, 42]].concat()), Some("192.0.2.1:12345")),
            (v2(0, 0x11, &V4), None),
            (v2(0, 0, &[]), None),
            (v2(1, 0x31, &[0; 216]), None),
        ] {
            let caller: Option<SocketAddr> = caller.map(|caller| caller.parse().unwrap());
            let (at_once, left) = reads(&[&[&header[..], tls].concat()]).await;
            assert_eq!((at_once.unwrap(), left.as_slice()), (caller, tls), "{header:?}");
            let (first, last) = header.split_at(header.len() - 1);
            let (in_pieces, left) = reads(&[&first[..7], &first[7..], last, tls]).await;
            assert_eq!((in_pieces.unwrap(), left.as_slice()), (caller, tls), "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_without_reading_on() {
        let padded = |length: usize| {
            let mut line = b"PROXY UNKNOWN ".to_vec();
            line.resize(length - 2, b'x');
            [&line[..], b"\r\n"].concat()
        };
        assert!(reads(&[&padded(107)]).await.0.is_ok());
        assert!(matches!(reads(&[&padded(108)]).await.0, Err(ProxyError::TooLong)));
        assert!(reads(&[&v2(1, 0, &[0; 536])]).await.0.is_ok());
        assert!(matches!(reads(&[&v2(1, 0, &[0; 537])]).await.0, Err(ProxyError::TooLong)));
        let missing = reads(&[b"GET / HTTP/1.1\r\n\r\n"]).await.0;
        assert!(matches!(missing, Err(ProxyError::Missing)));
        for malformed in [
            &b"PROXY TCP4 nonsense\r\n"[..],
            b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\rX\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 123456 443\r\n",
            &v2(1, 0x11, &V4[..11]),
            &v2(7, 0x11, &V4),
        ] {
            let (read, _) = reads(&[malformed]).await;
            assert!(matches!(read, Err(ProxyError::Malformed)), "{malformed:?}: {read:?}");
        }
        for cut in [&b"PROXY"[..], b"PROXY TCP4 192.0.2.1", v2::PROTOCOL_PREFIX] {
            assert!(matches!(reads(&[cut]).await.0, Err(ProxyError::Io(_))), "{cut:?}");
        }
    }

    #[test]
    fn a_header_is_expected_from_the_networks_alone() {
        let from = ["10.0.0.0/8".parse().unwrap(), "192.0.2.7/32".parse().unwrap()];
        let expected = |peer: &str| is_expected(&from, peer.parse().unwrap());
        assert!(expected("10.1.2.3") && expected("192.0.2.7") && expected("::ffff:10.1.2.3"));
        assert!(!expected("11.0.0.1") && !expected("::1"));
        assert!(!is_expected(&[], "10.1.2.3".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse_v1(&[b"PROXY ", &rest[..]].concat());
            let _ = parse_v2(&[v2::PROTOCOL_PREFIX, &rest[..]].concat());
            let _ = parse_v2(&rest);
        }
    }
}
