%% Time: how late timers are, alone and beside processes that never rest.
-module(twin_time).
-export([timers/0, fairness/0]).

%% Many timers of one process, spread over a second.
timers() ->
    [begin
         Late = twin:apart(fun() -> timers(twin:of_full(Count), twin:of_full(1000)) end),
         twin:spread(twin:label(Count) ++ " timers, lateness {q}, us", Late)
     end || Count <- [10000, 100000]],
    ok.

timers(Count, Spread) ->
    [begin
         Delay = 500 + Number rem Spread,
         erlang:send_after(Delay, self(), {due, twin:now_ns() + Delay * 1000000})
     end || Number <- lists:seq(1, Count)],
    [receive {due, Due} -> twin:now_ns() - Due end || _ <- lists:seq(1, Count)].

%% A tick of 10 ms and a ping-pong, each beside 8 processes that spin.
fairness() ->
    [spawn(fun() -> spin(0) end) || _ <- lists:seq(1, 8)],
    Beside = "beside 8 spinning, " ++ twin:schedulers(),
    Ticks = twin:apart(fun() -> [tick() || _ <- lists:seq(1, twin:of_full(200))] end),
    twin:spread("10 ms tick " ++ Beside ++ ", lateness {q}, us", Ticks),
    Trips = twin:apart(fun() ->
        Pong = spawn_link(fun pong/0),
        [trip(Pong) || _ <- lists:seq(1, twin:of_full(10000))]
    end),
    twin:spread("ping-pong " ++ Beside ++ ", round trip {q}, us", Trips).

tick() ->
    Due = twin:now_ns() + 10000000,
    erlang:send_after(10, self(), tick),
    receive tick -> twin:now_ns() - Due end.

trip(Pong) ->
    Began = twin:now_ns(),
    Pong ! {self(), <<"sixteen bytes ok">>},
    receive {Pong, _} -> twin:now_ns() - Began end.

pong() -> receive {From, Payload} -> From ! {self(), Payload}, pong() end.

spin(Count) -> spin((Count + 1) band 16#FFFFFF).
