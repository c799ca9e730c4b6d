import com.rabbitmq.client.*;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

/** Scenarios for RabbitMQ's own Java client, the one below Spring AMQP. Usage: JavaClient.java URL SCENARIO. */
public class JavaClient {
    static String url;

    interface Scenario {
        void run() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        url = args[0].replaceAll("\\?.*", "");
        Map<String, Scenario> scenarios = new LinkedHashMap<>();
        scenarios.put("helloWorld", JavaClient::helloWorld);
        scenarios.put("workQueue", JavaClient::workQueue);
        scenarios.put("remoteProcedureCall", JavaClient::remoteProcedureCall);
        scenarios.put("confirmsAndReturns", JavaClient::confirmsAndReturns);
        scenarios.put("channelErrors", JavaClient::channelErrors);
        scenarios.put("exclusiveConsumer", JavaClient::exclusiveConsumer);
        scenarios.put("refused", JavaClient::refused);
        scenarios.put("consumerCancelled", JavaClient::consumerCancelled);
        if (args[1].equals("all")) {
            for (Map.Entry<String, Scenario> scenario : scenarios.entrySet()) {
                scenario.getValue().run();
                System.out.println("ok " + scenario.getKey());
            }
        } else {
            recovers();
        }
        System.out.println("done");
        System.exit(0);
    }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(url);
        factory.setAutomaticRecoveryEnabled(true);
        factory.setTopologyRecoveryEnabled(true);
        factory.setNetworkRecoveryInterval(50);
        return factory;
    }

    static Connection connect() throws Exception {
        return factory().newConnection();
    }

    static void expect(Object what, Object expected) {
        if (!Objects.equals(what, expected)) throw new AssertionError("expected " + expected + ", got " + what);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static void helloWorld() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.queueDeclare("java-hello", false, false, true, null);
            channel.basicPublish("", "java-hello", null, bytes("Hello World!"));
            BlockingQueue<String> received = new ArrayBlockingQueue<>(1);
            channel.basicConsume("java-hello", true, new DefaultConsumer(channel) {
                @Override
                public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
                    received.add(text(body));
                }
            });
            expect(received.poll(10, TimeUnit.SECONDS), "Hello World!");
        }
    }

    static void workQueue() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.queueDeclare("java-work", true, false, false, null);
            Map<String, Object> headers = new HashMap<>();
            headers.put("long", 1L << 40);
            headers.put("list", Arrays.asList(1, "two", true));
            headers.put("date", new Date(1_700_000_000_000L));
            AMQP.BasicProperties persistent = new AMQP.BasicProperties.Builder().deliveryMode(2).headers(headers).build();
            for (int n = 0; n < 10; n++) channel.basicPublish("", "java-work", persistent, bytes("" + n));
            channel.basicQos(1);
            BlockingQueue<String> received = new LinkedBlockingQueue<>();
            String tag = channel.basicConsume("java-work", false, new DefaultConsumer(channel) {
                @Override
                public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body)
                        throws IOException {
                    received.add(text(body) + " " + properties.getHeaders().get("long") + " "
                            + properties.getHeaders().get("list") + " " + ((Date) properties.getHeaders().get("date")).getTime());
                    getChannel().basicAck(envelope.getDeliveryTag(), false);
                }
            });
            for (int n = 0; n < 10; n++)
                expect(received.poll(10, TimeUnit.SECONDS), n + " 1099511627776 [1, two, true] 1700000000000");
            channel.basicCancel(tag);
            expect(channel.queueDelete("java-work").getMessageCount(), 0);
        }
    }

    static void remoteProcedureCall() throws Exception {
        try (Connection connection = connect()) {
            Channel server = connection.createChannel();
            String queue = server.queueDeclare().getQueue();
            RpcServer rpc = new StringRpcServer(server, queue) {
                @Override
                public String handleStringCall(String request, AMQP.BasicProperties reply) {
                    return request + " pong";
                }
            };
            Thread loop = new Thread(() -> {
                try {
                    rpc.mainloop();
                } catch (Exception ended) {
                    // The connection is closed at the end of the scenario.
                }
            });
            loop.setDaemon(true);
            loop.start();
            RpcClient client = new RpcClient(connection.createChannel(), "", queue, "amq.rabbitmq.reply-to", 10_000);
            expect(client.stringCall("ping"), "ping pong");
            expect(client.stringCall("again"), "again pong");
        }
    }

    static void confirmsAndReturns() throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            BlockingQueue<String> returned = new ArrayBlockingQueue<>(1);
            channel.addReturnListener((code, reason, exchange, key, properties, body) ->
                    returned.add(code + " " + reason + " " + exchange + " " + key + " " + text(body)));
            channel.basicPublish("amq.direct", "java-nobody", true, null, bytes("lost"));
            channel.waitForConfirmsOrDie(10_000);
            expect(returned.poll(1, TimeUnit.SECONDS), "312 NO_ROUTE amq.direct java-nobody lost");
            for (int n = 0; n < 1000; n++) channel.basicPublish("amq.direct", "java-nobody", null, bytes("x"));
            expect(channel.waitForConfirms(10_000), true);
        }
    }

    /** What closed the channel, as Spring AMQP reads it: code, class and method. */
    static String closeOf(Scenario scenario) throws Exception {
        try {
            scenario.run();
        } catch (IOException | AlreadyClosedException failure) {
            Throwable cause = failure instanceof AlreadyClosedException ? failure : failure.getCause();
            AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) cause).getReason();
            return close.getReplyCode() + " " + close.getClassId() + "/" + close.getMethodId() + " " + close.getReplyText();
        }
        throw new AssertionError("nothing was refused");
    }

    static void channelErrors() throws Exception {
        try (Connection connection = connect()) {
            String here = " in vhost '" + factory().getVirtualHost() + "'";
            expect(closeOf(() -> connection.createChannel().queueDeclarePassive("java-none")),
                    "404 50/10 NOT_FOUND - no queue 'java-none'" + here);
            expect(closeOf(() -> connection.createChannel().exchangeDeclare("amq.direct", "fanout", true)),
                    "406 40/10 PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct'" + here
                            + ": received 'fanout' but current is 'direct'");
            expect(closeOf(() -> connection.createChannel().queueDeclare("amq.mine", false, false, false, null)),
                    "403 50/10 ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'");
            connection.createChannel().queueDeclare("java-mine", false, true, false, null);
            try (Connection other = connect()) {
                String refusal = closeOf(() -> other.createChannel().queueDeclarePassive("java-mine"));
                expect(refusal.startsWith("405 50/10 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"), true);
            }
        }
    }

    static void exclusiveConsumer() throws Exception {
        try (Connection connection = connect()) {
            Channel first = connection.createChannel();
            String queue = first.queueDeclare().getQueue();
            first.basicConsume(queue, true, "", false, true, null, new DefaultConsumer(first));
            Channel second = connection.createChannel();
            String refusal = closeOf(() -> second.basicConsume(queue, true, "", false, true, null, new DefaultConsumer(second)));
            expect(refusal.startsWith("403 60/20 ACCESS_REFUSED - queue '" + queue + "' in vhost "), true);
            expect(refusal.endsWith(" in exclusive use"), true);
        }
    }

    static void refused() throws Exception {
        ConnectionFactory wrong = factory();
        wrong.setPassword("wrong");
        try {
            wrong.newConnection();
            throw new AssertionError("wrong password let in");
        } catch (AuthenticationFailureException failure) {
            expect(failure.getMessage(), "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
                    + " For details see the broker logfile.");
        }
        ConnectionFactory nowhere = factory();
        nowhere.setVirtualHost("java-no-such-vhost");
        try {
            nowhere.newConnection();
            throw new AssertionError("unknown vhost let in");
        } catch (IOException failure) {
            AMQP.Connection.Close close =
                    (AMQP.Connection.Close) ((ShutdownSignalException) failure.getCause()).getReason();
            expect(close.getReplyCode() + " " + close.getReplyText(), "530 NOT_ALLOWED - vhost java-no-such-vhost not found");
        }
    }

    static void consumerCancelled() throws Exception {
        try (Connection connection = connect()) {
            Channel channel = connection.createChannel();
            channel.queueDeclare("java-cancelled", false, false, false, null);
            BlockingQueue<String> cancelled = new ArrayBlockingQueue<>(1);
            channel.basicConsume("java-cancelled", true, "the-tag", new DefaultConsumer(channel) {
                @Override
                public void handleCancel(String tag) {
                    cancelled.add(tag);
                }
            });
            connection.createChannel().queueDelete("java-cancelled");
            expect(cancelled.poll(10, TimeUnit.SECONDS), "the-tag");
        }
    }

    static void recovers() throws Exception {
        Connection connection = connect();
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        connection.addShutdownListener(cause -> events.add("shut down: " + cause.getReason()));
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare("java-recovers", false, true, true, null).getQueue();
        channel.basicConsume(queue, true, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
                events.add(text(body));
            }
        });
        ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recovered) {
                System.out.println("recovered");
                try {
                    channel.basicPublish("", queue, null, bytes("again"));
                } catch (IOException failure) {
                    throw new IllegalStateException(failure);
                }
            }

            @Override
            public void handleRecoveryStarted(Recoverable recovering) {
            }
        });
        System.out.println("consuming");
        String shutDown = events.poll(30, TimeUnit.SECONDS);
        if (shutDown == null || !shutDown.contains("reply-code=320") || !shutDown.contains("CONNECTION_FORCED"))
            throw new AssertionError("shut down with " + shutDown);
        expect(events.poll(30, TimeUnit.SECONDS), "again");
        connection.close();
    }
}
