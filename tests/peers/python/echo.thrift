// The Echo service for Thrift's peers.
exception Failure {
  1: string message
}

service Echo {
  string echo(1: string text)
  string who()
  string slow(1: i32 milliseconds)
  string big(1: i32 size)
  string fail(1: string text) throws (1: Failure failure)
  string crash(1: string text)
  oneway void note()
  string noted()
  string busy()
}
