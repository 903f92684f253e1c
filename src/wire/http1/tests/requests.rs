//! The table of requests: what is read how, and what is refused with which status.

use super::*;

/// Status of the refusal, or 0 when accepted, and the number of complete requests before.
#[rustfmt::skip]
pub(super) const TABLE: &[(&str, u16, usize, &[u8])] = &[
    // accepted
    ("simple", 0, 1, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("ConfigMgr method", 0, 1, b"CCM_POST /ccm_system/request HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("BITS method", 0, 1, b"BITS_POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    ("WebDAV method", 0, 1, b"PROPFIND /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("method with every token character", 0, 1, b"A!#$%&'*+-.^_`|~0 / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no space after the colon", 0, 1, b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
    ("tabs around a value", 0, 1, b"GET / HTTP/1.1\r\nHost:\t a\t \r\n\r\n"),
    ("empty value", 0, 1, b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n"),
    ("byte over 0x7f in a value", 0, 1, b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n"),
    ("one empty line before", 0, 1, b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two empty lines before", 0, 1, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("empty line after a body", 0, 2, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("three pipelined", 0, 3, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("HTTP/1.0 without Host", 0, 1, b"GET / HTTP/1.0\r\n\r\n"),
    ("HTTP/1.0 is not followed by another", 0, 1, b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
    ("HTTP/1.0 kept alive", 0, 2, b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
    ("close is not followed by another", 0, 1, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("close beats keep-alive", 0, 1, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("length with leading zeros", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc"),
    ("chunked", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    ("chunked in capitals", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: ChunkED\r\n\r\n0\r\n\r\n"),
    ("chunk extension", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c=\"d;e\"\r\nabc\r\n0;x\r\n\r\n"),
    ("chunk size with leading zeros", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n"),
    ("trailers", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"),
    ("expectation", 0, 1, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx"),
    ("absolute form", 0, 1, b"GET http://a.example:80/x HTTP/1.1\r\nHost: A.example:80\r\n\r\n"),
    ("absolute form without path", 0, 1, b"GET HTTPS://a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("asterisk form", 0, 1, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("IPv6 host", 0, 1, b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n"),
    ("braces in the query", 0, 1, b"GET /SMS_MP/.sms_pol?{B1}.200_00 HTTP/1.1\r\nHost: a\r\n\r\n"),

    // two framings
    ("length and coding", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding and length", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
    ("length and unknown coding", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nContent-Length: 4\r\n\r\n"),
    ("two lengths", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"),
    ("two equal lengths", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"),
    ("length list", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd"),
    ("two codings", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding, then identity", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("chunked twice", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("underscore length", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 4\r\n\r\nabcd"),
    ("underscore coding", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),

    // lengths that are not one number
    ("length +4", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd"),
    ("length -4", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\nabcd"),
    ("length 0x4", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd"),
    ("length 4.0", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4.0\r\n\r\nabcd"),
    ("length 1_0", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n0123456789"),
    ("length 4 4", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\nabcd"),
    ("length 4;", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4;\r\n\r\nabcd"),
    ("length empty", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcd"),
    ("length over 64 bits", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551620\r\n\r\nabcd"),
    ("length over 63 bits", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\nabcd"),
    ("length in other digits", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xd9\xa4\r\n\r\nabcd"),

    // codings
    ("gzip, chunked", 501, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, gzip", 501, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("identity", 501, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("xchunked", 501, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("quoted chunked", 501, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("chunked;q=1", 501, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    (", chunked", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"),
    ("empty coding", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    ("vertical tab, chunked", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("coding in HTTP/1.0", 400, 0, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),

    // lines
    ("bare LF after the request line", 400, 0, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("bare LF after a field", 400, 0, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    ("bare LF as the last line", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("bare LF before the request", 400, 0, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("three empty lines before", 400, 0, b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bare CR before the request", 400, 0, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bare CR in a value", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    ("bare CR in a name", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: b\r\n\r\n"),
    ("CR CR LF", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    ("CR CR LF after the request line", 400, 0, b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    ("CR in the request line", 400, 0, b"GET /\rX HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("folded line", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    ("folded line with a tab", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n"),
    ("space before the first field", 400, 0, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("space before the colon", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd"),
    ("tab before the colon", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("line without a colon", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    ("empty name", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("name with a delimiter", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n"),
    ("name with a byte over 0x7f", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX\xa0: b\r\n\r\n"),
    ("NUL in a value", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("NUL in a name", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n"),
    ("DEL in a value", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n"),
    ("escape character in a value", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n"),

    // request line
    ("two spaces before the target", 400, 0, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two spaces after the target", 400, 0, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("tab for a space", 400, 0, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("space at the end", 400, 0, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("space at the start", 400, 0, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("space in the target", 400, 0, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no version (HTTP/0.9)", 400, 0, b"GET /\r\n\r\n"),
    ("no target", 400, 0, b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("method with a delimiter", 400, 0, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("method too long", 501, 0, b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("byte over 0x7f in the target", 400, 0, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("fragment", 400, 0, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("NUL in the target", 400, 0, b"GET /a\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("relative target", 400, 0, b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("asterisk with GET", 400, 0, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("authority form with GET", 400, 0, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("other scheme", 400, 0, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("CONNECT", 501, 0, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    ("HTTP/2 preface", 505, 0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP/1.2", 505, 0, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("HTTP/3.0", 505, 0, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    ("lower-case version", 400, 0, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("version with two digits", 400, 0, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("TLS hello", 400, 0, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),

    // Host
    ("no Host", 400, 0, b"GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two equal Hosts", 400, 0, b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
    ("two Hosts in HTTP/1.0", 400, 0, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("empty Host", 400, 0, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("Host list", 400, 0, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("Host with a user", 400, 0, b"GET / HTTP/1.1\r\nHost: b@a\r\n\r\n"),
    ("Host with a path", 400, 0, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("Host with a space", 400, 0, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("Host with an escape", 400, 0, b"GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n"),
    ("Host with a name for a port", 400, 0, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("Host with port 65536", 400, 0, b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    ("Host with two ports", 400, 0, b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    ("Host with an empty port", 400, 0, b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n"),
    ("Host with a bad IPv6 address", 400, 0, b"GET / HTTP/1.1\r\nHost: [1::2::3]\r\n\r\n"),
    ("Host with an open bracket", 400, 0, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    ("Host with text after the bracket", 400, 0, b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
    ("absolute form, other Host", 400, 0, b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("absolute form, other port", 400, 0, b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute form, no Host", 400, 0, b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("absolute form with a user", 400, 0, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute form, query without path", 400, 0, b"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute form without authority", 400, 0, b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"),

    // expectations
    ("other expectation", 417, 0, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx"),
    ("expectation list", 417, 0, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n\r\nx"),
    ("other expectation behind", 417, 0, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),

    // chunks
    ("chunk without size", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n"),
    ("chunk with extension only", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n"),
    ("chunk size 0x3", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n"),
    ("chunk size +3", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n"),
    ("chunk size -3", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n"),
    ("chunk size 1_0", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\nabc\r\n"),
    ("space before the chunk size", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n"),
    ("space after the chunk size", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n"),
    ("space before the extension", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 ;a\r\nabc\r\n"),
    ("chunk size over 64 bits", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n"),
    ("chunk size over 63 bits", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8000000000000000\r\nabc\r\n"),
    ("chunk size with too many zeros", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000003\r\nabc\r\n"),
    ("chunk size ended by bare LF", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n"),
    ("chunk size followed by bare CR", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\rabc\r\n"),
    ("bare LF in an extension", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n"),
    ("bare LF in a quoted extension", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"\n\"\r\nabc\r\n"),
    ("bare CR in an extension", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n"),
    ("NUL in an extension", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\0\r\nabc\r\n"),
    ("chunk data too long", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"),
    ("chunk data ended by bare LF", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"),
    ("chunk data ended by bare CR", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r0\r\n\r\n"),

    // trailers
    ("bare LF in trailers", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\r\n"),
    ("bare LF for the last line", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n"),
    ("folded trailer", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n"),
    ("trailer without a colon", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
    ("space at the start of trailers", 400, 0, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n X: a\r\n\r\n"),
];

#[test]
fn table_of_requests() {
    for (name, status, complete, bytes) in TABLE {
        let (seen, refusal) = serve(LIMITS, [*bytes]);
        let ended = seen.iter().filter(|request| request.ended).count();
        assert_eq!(
            (refusal.map_or(0, |r| r.status), ended),
            (*status, *complete),
            "{name}: {refusal:?}"
        );
    }
}

#[test]
fn every_split_gives_the_same() {
    for (name, _, _, bytes) in TABLE {
        let whole = serve(LIMITS, [*bytes]);
        let bytewise = serve(LIMITS, bytes.chunks(1));
        assert_eq!(whole, bytewise, "{name}, byte by byte");
        for at in 0..bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(whole, serve(LIMITS, [a, b]), "{name}, split at {at}");
        }
    }
}

fn one(bytes: &[u8]) -> Request {
    let (mut seen, refusal) = serve(LIMITS, [bytes]);
    assert_eq!(refusal, None);
    seen.remove(0)
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn head_is_given_as_sent() {
    let request = one(b"POST /a?b HTTP/1.1\r\nhOST:  a.example:8443 \r\nX-One:1\r\nX-Two:\ta, b\t\r\nX-Empty: \r\n\
        Content-Length: 2\r\n\r\nhi");
    assert_eq!(request.method, "POST");
    assert_eq!(request.target, "/a?b");
    assert_eq!(request.host, "a.example:8443");
    assert_eq!(
        request.fields,
        [
            pair("hOST", "a.example:8443"),
            pair("X-One", "1"),
            pair("X-Two", "a, b"),
            pair("X-Empty", ""),
            pair("Content-Length", "2")
        ]
    );
    assert_eq!(
        (request.framing, request.body),
        (Framing::Length(2), b"hi".to_vec())
    );
}

#[test]
fn origin_form_of_every_target() {
    for (target, expected) in [
        ("/a?b", "/a?b"),
        ("http://h/a?b", "/a?b"),
        ("http://h", "/"),
        ("https://h/", "/"),
        ("*", "*"),
    ] {
        let bytes = format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut server = Server::new(LIMITS);
        let Ok(ServerEvent::Head(head)) = server.next(bytes.as_bytes(), &mut 0) else {
            panic!("{target}")
        };
        assert_eq!(text(head.origin_form()), expected);
        assert_eq!(text(head.host), "h");
    }
}

#[test]
fn expectation_counts_only_with_a_body() {
    let with = |rest: &str| one(format!("POST / {rest}").as_bytes()).expect_continue;
    assert!(with(
        "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    ));
    assert!(with(
        "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ));
    assert!(!with(
        "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"
    ));
    assert!(!with("HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"));
    assert!(!with(
        "HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    ));
}

#[test]
fn upgrade_needs_its_connection_option() {
    let upgrade = |rest: &str| one(format!("GET / {rest}\r\n\r\n").as_bytes()).upgrade;
    assert_eq!(
        upgrade("HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket"),
        Some("websocket".to_owned())
    );
    assert_eq!(upgrade("HTTP/1.1\r\nHost: a\r\nUpgrade: websocket"), None);
    assert_eq!(upgrade("HTTP/1.1\r\nHost: a\r\nConnection: upgrade"), None);
    assert_eq!(
        upgrade("HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket"),
        None
    );
}

#[test]
fn trailers_lose_what_must_not_stand_there() {
    let request = one(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
        Content-Length: 5\r\nX-Sum: 1\r\nTransfer-Encoding: chunked\r\nhost: b\r\nAuthorization: x\r\n\
        tidegate_client_id: x\r\nTidegate-Auth: x\r\nX-Last: 2\r\n\r\n");
    assert_eq!(request.trailers, [pair("X-Sum", "1"), pair("X-Last", "2")]);
}

#[test]
fn hop_by_hop_fields_are_told_apart() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-drop, Host\r\nCONNECTION: Authorization , keep-alive,x-too\r\n\
        Keep-Alive: 5\r\nTE: trailers\r\nTrailer: X-Sum\r\nUpgrade: x\r\nProxy-Connection: y\r\nX-Drop: 1\r\nX-Too: 2\r\n\
        X-Stay: 3\r\nAuthorization: b\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut server = Server::new(LIMITS);
    let Ok(ServerEvent::Head(head)) = server.next(bytes, &mut 0) else {
        panic!()
    };
    let kept: Vec<_> = head
        .fields
        .end_to_end()
        .map(|field| text(field.name))
        .collect();
    assert_eq!(kept, ["Host", "Trailer", "X-Stay", "Authorization"]);
    assert_eq!(head.fields.get(b"x-stay"), Some(&b"3"[..]));
    assert_eq!(head.fields.get_all(b"Connection").count(), 2);
}

fn head_of(length: usize) -> Vec<u8> {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    bytes.resize(length - 4, b'x');
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

#[test]
fn head_limit_is_exact() {
    for (length, status) in [
        (LIMITS.head_bytes, 0),
        (LIMITS.head_bytes + 1, 431),
        (LIMITS.head_bytes * 9, 431),
    ] {
        let bytes = head_of(length);
        for piece in [1, 7, LIMITS.head_bytes - 1, LIMITS.head_bytes, bytes.len()] {
            let (_, refusal) = serve(LIMITS, bytes.chunks(piece));
            assert_eq!(
                refusal.map_or(0, |r| r.status),
                status,
                "{length} bytes in pieces of {piece}"
            );
        }
    }
    // empty lines before it do not count
    let mut bytes = b"\r\n\r\n".to_vec();
    bytes.extend(head_of(LIMITS.head_bytes));
    assert_eq!(serve(LIMITS, bytes.chunks(3)).1, None);
}

#[test]
fn long_target_is_414() {
    let bytes = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(LIMITS.head_bytes)
    );
    for piece in [1, 100, bytes.len()] {
        assert_eq!(
            serve(LIMITS, bytes.as_bytes().chunks(piece))
                .1
                .map(|r| r.status),
            Some(414)
        );
    }
}

#[test]
fn field_count_limit_is_exact() {
    for (count, status) in [(LIMITS.header_count, 0), (LIMITS.header_count + 1, 431)] {
        let bytes = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: 1\r\n".repeat(count - 1)
        );
        let (_, refusal) = serve(LIMITS, [bytes.as_bytes()]);
        assert_eq!(refusal.map_or(0, |r| r.status), status, "{count} fields");
    }
    // the array on the stack bounds a limit set too high
    let limits = Limits {
        head_bytes: 65536,
        header_count: 100_000,
        trailer_bytes: 65536,
    };
    for (count, status) in [(FIELDS_MAX, 0), (FIELDS_MAX + 1, 431)] {
        let bytes = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: 1\r\n".repeat(count - 1)
        );
        assert_eq!(
            serve(limits, [bytes.as_bytes()]).1.map_or(0, |r| r.status),
            status,
            "{count} fields"
        );
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n",
            "X: 1\r\n".repeat(count)
        );
        assert_eq!(
            serve(limits, [bytes.as_bytes()]).1.map_or(0, |r| r.status),
            status,
            "{count} trailers"
        );
    }
}

#[test]
fn trailer_limit_is_exact() {
    for (length, status) in [(LIMITS.trailer_bytes, 0), (LIMITS.trailer_bytes + 1, 431)] {
        let mut bytes =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec();
        bytes.extend_from_slice(b"X: ");
        bytes.extend(std::iter::repeat_n(b'x', length - 7));
        bytes.extend_from_slice(b"\r\n\r\n");
        for piece in [1, 50, bytes.len()] {
            let (_, refusal) = serve(LIMITS, bytes.chunks(piece));
            assert_eq!(
                refusal.map_or(0, |r| r.status),
                status,
                "{length} bytes in pieces of {piece}"
            );
        }
    }
}

#[test]
fn chunk_lines_are_bounded_each_and_together() {
    let refused = |chunk: &str, times: usize| {
        let mut bytes =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..times {
            bytes.extend_from_slice(chunk.as_bytes());
        }
        serve(LIMITS, bytes.chunks(1000)).1.is_some()
    };
    let extended = |length: usize| format!("1;{}\r\nx\r\n", "e".repeat(length));
    assert!(!refused(&extended(250), 1));
    assert!(refused(&extended(300), 1));
    assert!(!refused(&extended(250), 50));
    assert!(
        refused(&extended(250), 100),
        "tiny chunks under long extensions"
    );
    assert!(
        !refused("1\r\nx\r\n", 100_000),
        "tiny chunks alone are legal"
    );
}
