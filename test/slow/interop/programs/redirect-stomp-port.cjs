/** Loaded before a program that connects to port 61613 whatever one does: sends it to the port in STOMP_PORT instead. */
const net = require('node:net');

const { connect } = net;
net.connect = (options, ...rest) =>
  Number(options.port) === 61613
    ? connect({ ...options, host: '127.0.0.1', port: Number(process.env.STOMP_PORT) }, ...rest)
    : connect(options, ...rest);
