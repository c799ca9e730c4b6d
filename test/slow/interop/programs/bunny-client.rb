# Scenarios for Bunny, each the documented way. Usage: bunny-client.rb URL SCENARIO. Exits with 0 when all was as expected.
require 'bunny'

URL = ARGV.fetch(0).sub(/\?.*/, '')

def connect(options = {})
  Bunny.new(URL, { log_level: :fatal, recover_from_connection_close: true, network_recovery_interval: 0.05 }.merge(options)).start
end

def expect(what, expected)
  raise "expected #{expected.inspect}, got #{what.inspect}" unless expected === what
end

def expect_error(kind, text)
  yield
  raise "no #{kind}"
rescue kind => e
  raise "#{e.message.inspect} does not say #{text.inspect}" unless e.message.include?(text)
end

def hello_world
  connection = connect
  channel = connection.create_channel
  queue = channel.queue('bunny-hello', auto_delete: true)
  received = Queue.new
  queue.subscribe(manual_ack: true) do |delivery_info, metadata, payload|
    received << [payload, metadata.content_type]
    channel.ack(delivery_info.delivery_tag)
  end
  channel.default_exchange.publish('Hello!', routing_key: queue.name)
  expect received.pop, ['Hello!', 'application/octet-stream']
  connection.close
end

def topics_and_headers
  connection = connect
  channel = connection.create_channel
  weather = channel.topic('bunny-weather', auto_delete: true)
  queue = channel.queue('', exclusive: true).bind(weather, routing_key: 'americas.north.#')
  weather.publish('Vancouver', routing_key: 'americas.north.ca.vancouver', headers: { 'time' => Time.at(1_700_000_000), 'n' => 1, 'nested' => { 'list' => [1.5, 'two'], 'yes' => true } })
  weather.publish('Oslo', routing_key: 'europe.no.oslo')
  delivery_info, properties, payload = queue.pop
  expect [payload, delivery_info.routing_key, delivery_info.exchange], ['Vancouver', 'americas.north.ca.vancouver', 'bunny-weather']
  expect properties[:headers], { 'time' => Time.at(1_700_000_000), 'n' => 1, 'nested' => { 'list' => [1.5, 'two'], 'yes' => true } }
  expect queue.pop, [nil, nil, nil]
  connection.close
end

def exchange_to_exchange
  connection = connect
  channel = connection.create_channel
  source = channel.fanout('bunny-source', auto_delete: true)
  destination = channel.fanout('bunny-destination', auto_delete: true)
  queue = channel.queue('', exclusive: true).bind(destination)
  destination.bind(source)
  source.publish('through both')
  expect queue.pop[2], 'through both'
  destination.unbind(source)
  connection.close
end

def confirms_and_returns
  connection = connect
  channel = connection.create_channel
  channel.confirm_select
  returned = Queue.new
  exchange = channel.direct('amq.direct', durable: true)
  exchange.on_return { |info, _properties, content| returned << [info.reply_code, info.reply_text, content] }
  exchange.publish('lost', routing_key: 'bunny-nobody', mandatory: true)
  expect returned.pop, [312, 'NO_ROUTE', 'lost']
  queue = channel.queue('', exclusive: true, arguments: { 'x-max-length' => 1, 'x-overflow' => 'reject-publish' })
  3.times { |n| channel.default_exchange.publish(n.to_s, routing_key: queue.name) }
  expect channel.wait_for_confirms, false
  expect channel.nacked_set.size, 2
  expect queue.message_count, 1
  connection.close
end

def acknowledgements
  connection = connect
  channel = connection.create_channel
  queue = channel.queue('', exclusive: true)
  5.times { |n| channel.default_exchange.publish(n.to_s, routing_key: queue.name) }
  tags = Array.new(5) { queue.pop(manual_ack: true)[0].delivery_tag }
  channel.ack(tags[1], true)
  channel.nack(tags[2], false, true)
  channel.reject(tags[3], false)
  channel.close
  rest = connection.create_channel.queue(queue.name, passive: true)
  bodies = Array.new(rest.message_count) { info, _, body = rest.pop; [body, info.redelivered?] }
  expect bodies, [['2', true], ['4', true]]
  connection.close
end

def errors
  connection = connect
  expect_error(Bunny::NotFound, "NOT_FOUND - no queue 'bunny-no-such-queue' in vhost '#{connection.vhost}'") do
    connection.create_channel.queue('bunny-no-such-queue', passive: true)
  end
  connection.create_channel.queue('bunny-mine', exclusive: true)
  expect_error(Bunny::PreconditionFailed, "inequivalent arg 'auto_delete' for queue 'bunny-mine'") do
    connection.create_channel.queue('bunny-mine', exclusive: true, auto_delete: true)
  end
  expect_error(Bunny::AccessRefused, "queue name 'amq.mine' contains reserved prefix 'amq.*'") do
    connection.create_channel.queue('amq.mine')
  end
  other = connect
  expect_error(Bunny::ResourceLocked, "cannot obtain exclusive access to locked queue 'bunny-mine'") do
    other.create_channel.queue('bunny-mine', exclusive: true)
  end
  channel = connection.create_channel
  reason = Queue.new
  channel.on_error { |_channel, close| reason << close.reply_text }
  channel.ack(82)
  expect reason.pop, 'PRECONDITION_FAILED - unknown delivery tag 82'
  [connection, other].each(&:close)
end

def refused
  begin
    Bunny.new(URL.sub(':guest@', ':wrong@'), log_level: :fatal).start
    raise 'wrong password let in'
  rescue Bunny::AuthenticationFailureError, Bunny::PossibleAuthenticationFailureError
  end
  begin
    Bunny.new(URL.sub(%r{[^/]*\z}, 'bunny-no-such-vhost'), log_level: :fatal, recover_from_connection_close: false).start
    raise 'unknown vhost let in'
  rescue Bunny::NotAllowedError, Bunny::TCPConnectionFailed => e
    raise e unless e.message.include?('vhost bunny-no-such-vhost not found')
  end
end

def transactions
  connection = connect
  channel = connection.create_channel
  queue = channel.queue('', exclusive: true)
  channel.tx_select
  channel.default_exchange.publish('rolled back', routing_key: queue.name)
  channel.tx_rollback
  channel.default_exchange.publish('committed', routing_key: queue.name)
  expect queue.message_count, 0
  channel.tx_commit
  expect queue.pop[2], 'committed'
  connection.close
end

def recovers
  connection = connect
  channel = connection.create_channel
  queue = channel.queue('bunny-recovers', durable: true)
  received = Queue.new
  queue.subscribe { |_delivery_info, _metadata, payload| received << payload }
  puts 'consuming'
  $stdout.flush
  expect received.pop, 'again'
  queue.delete
  connection.close
end

send(ARGV.fetch(1))
puts 'done'
