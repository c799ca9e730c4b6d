/** Loaded before a program that connects to port 5672 whatever one does: sends it to the port in AMQP_PORT instead. */
const net = require('node:net');

const { connect } = net;
net.connect = (options, ...rest) =>
  Number(options.port) === 5672
    ? connect({ ...options, host: '127.0.0.1', port: Number(process.env.AMQP_PORT) }, ...rest)
    : connect(options, ...rest);
