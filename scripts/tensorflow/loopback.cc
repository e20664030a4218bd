// Preloaded (LD_PRELOAD) into the processes of a run on one host: TensorFlow's server listens on all interfaces, without authentication, and has no setting for
// another address (grpc_server_lib.cc, tag v2.21.0). This `bind` replaces the wildcard address by the loopback interface.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

extern "C" int bind(int socket, const sockaddr* address, socklen_t length) {
  static const auto next = reinterpret_cast<int (*)(int, const sockaddr*, socklen_t)>(dlsym(RTLD_NEXT, "bind"));
  sockaddr_in v4;
  sockaddr_in6 v6;
  if (address->sa_family == AF_INET && length >= sizeof(v4)) {
    v4 = *reinterpret_cast<const sockaddr_in*>(address);
    if (v4.sin_addr.s_addr == htonl(INADDR_ANY)) v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return next(socket, reinterpret_cast<const sockaddr*>(&v4), sizeof(v4));
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(v6)) {
    v6 = *reinterpret_cast<const sockaddr_in6*>(address);
    // A socket of both protocols accepts IPv4 addresses in IPv6 form only.
    if (IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr)) inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6.sin6_addr);
    return next(socket, reinterpret_cast<const sockaddr*>(&v6), sizeof(v6));
  }
  return next(socket, address, length);
}
