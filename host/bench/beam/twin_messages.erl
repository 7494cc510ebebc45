%% Messages: ping-pong, ring, all to all, fan-in, call and reply.
-module(twin_messages).
-behaviour(gen_server).
-export([ping_pong/1, ring/0, all_to_all/0, fan_in/0, call/0]).
-export([init/1, handle_call/3, handle_cast/2]).

%% ---- ping-pong -----------------------------------------------------------

%% A binary of more than 64 bytes is shared, not copied. `bytes copied`: each
%% receiver makes a copy, which is what a guest's memory needs too.
%% Places: the schedulers that the two are pinned to.
ping_pong(Places) ->
    Ways = [{"16 B", 16, 500000, "", fun keep/1},
            {"1 KiB", 1024, 300000, " [bytes copied]", fun binary:copy/1},
            {"1 KiB", 1024, 300000, " [shared]", fun keep/1},
            {"64 KiB", 65536, 30000, " [bytes copied]", fun binary:copy/1},
            {"64 KiB", 65536, 30000, " [shared]", fun keep/1}],
    [play(Size, Bytes, Rounds, Way, Take, Places) || {Size, Bytes, Rounds, Way, Take} <- Ways].

keep(Bytes) -> Bytes.

play(Size, Bytes, FullRounds, Way, Take, Places) ->
    Rounds = twin:of_full(FullRounds),
    Payload = binary:copy(<<"x">>, Bytes),
    Me = self(),
    [First, Second] = case Places of
                          [] -> [[link], [link]];
                          _ -> [[link, {scheduler, Place}] || Place <- Places]
                      end,
    Pong = spawn_opt(fun() -> pong(Take) end, Second),
    Ping = spawn_opt(fun() -> pings(Me, Pong, Payload, Take) end, First),
    Round = fun(N) -> Ping ! N, receive {took, Took} -> Took end end,
    Round(Rounds div 10 + 1),
    Each = Round(Rounds) / (Rounds * 2),
    [begin unlink(Pid), exit(Pid, kill) end || Pid <- [Ping, Pong]],
    Place = case Places of [] -> twin:schedulers(); _ -> "pinned apart" end,
    twin:sample(["ping-pong ", Size, ", ", Place, ", ns/message", Way], Each).

pings(Main, Pong, Payload, Take) ->
    receive
        Rounds when is_integer(Rounds) ->
            Main ! {took, twin:timed(fun() -> ping(Rounds, Pong, Payload, Take) end)},
            pings(Main, Pong, Payload, Take)
    end.

ping(0, _, _, _) -> ok;
ping(Left, Pong, Payload, Take) ->
    Pong ! {self(), Payload},
    receive {Pong, Back} -> ping(Left - 1, Pong, Take(Back), Take) end.

pong(Take) ->
    receive {From, Payload} -> From ! {self(), Take(Payload)}, pong(Take) end.

%% ---- ring ----------------------------------------------------------------

ring() ->
    ring(503, twin:of_full(1000000), ""),
    ring(10000, twin:of_full(200000), ""),
    ring(10000, twin:of_full(200000), " shuffled").

ring(Size, Hops, Order) ->
    Me = self(),
    Spawned = [spawn(fun() -> receive {next, Next} -> relay(Next, Me) end end)
               || _ <- lists:seq(1, Size)],
    [First | Rest] = case Order of
        "" -> Spawned;
        _ -> [Pid || {_, Pid} <- lists:sort([{rand:uniform(), Pid} || Pid <- Spawned])]
    end,
    Last = lists:foldl(fun(Next, Pid) -> Pid ! {next, Next}, Next end, First, Rest),
    Last ! {next, First},
    Go = fun(N) -> twin:timed(fun() -> First ! N, receive arrived -> ok end end) / N end,
    Go(Hops div 10),
    twin:sample(["ring of ", twin:group(Size), Order, ", ", twin:schedulers(), ", ns/hop"],
                Go(Hops)).

relay(Next, Main) ->
    receive
        1 -> Main ! arrived;
        Left -> Next ! Left - 1
    end,
    relay(Next, Main).

%% ---- all to all ----------------------------------------------------------

all_to_all() -> all_to_all(100, twin:of_full(100)), all_to_all(1000, 1).

all_to_all(Size, Rounds) ->
    Me = self(),
    Peers = [spawn(fun() -> receive {others, Others} -> peer(Others, Size - 1, 0, Me) end end)
             || _ <- lists:seq(1, Size)],
    [Peer ! {others, lists:delete(Peer, Peers)} || Peer <- Peers],
    Round = fun() ->
        [Peer ! go || Peer <- Peers],
        [receive done -> ok end || _ <- Peers]
    end,
    Round(),
    Took = twin:timed(fun() -> [Round() || _ <- lists:seq(1, Rounds)] end),
    [exit(Peer, kill) || Peer <- Peers],
    Messages = Rounds * 2 * Size * (Size - 1),
    twin:sample([twin:group(Size), " all to all, ", twin:schedulers(), ", M messages/s"],
                Messages * 1.0e3 / Took).

%% `Missing`: answers that this round still lacks.
peer(Others, Count, Missing, Main) ->
    receive
        {ping, From} -> From ! pong, peer(Others, Count, Missing, Main);
        pong when Missing =:= 1 -> Main ! done, peer(Others, Count, 0, Main);
        pong -> peer(Others, Count, Missing - 1, Main);
        go ->
            [Other ! {ping, self()} || Other <- Others],
            peer(Others, Count, Count, Main)
    end.

%% ---- fan-in --------------------------------------------------------------

fan_in() ->
    Each = twin:of_full(1000),
    Me = self(),
    Sink = spawn_opt(fun() -> sinks(Me) end, [link, {message_queue_data, off_heap}]),
    Payload = binary:copy(<<"x">>, 16),
    Sources = [spawn_link(fun() -> source(Sink, Payload) end) || _ <- lists:seq(1, 1000)],
    Run = fun(N) ->
        Sink ! {expect, N * 1000},
        twin:timed(fun() -> [Source ! N || Source <- Sources], receive full -> ok end end)
    end,
    Run(1),
    twin:sample(["fan-in from 1,000, ", twin:schedulers(), ", M messages/s"],
                Each * 1000 * 1.0e3 / Run(Each)).

sinks(Main) -> receive {expect, All} -> sink(All), Main ! full, sinks(Main) end.

sink(0) -> ok;
sink(Left) -> receive {item, _} -> sink(Left - 1) end.

source(Sink, Payload) ->
    receive Count -> [Sink ! {item, Payload} || _ <- lists:seq(1, Count)] end,
    source(Sink, Payload).

%% ---- call and reply ------------------------------------------------------

call() -> calls(1, twin:of_full(300000)), calls(1000, twin:of_full(500000)).

calls(Clients, Total) ->
    {ok, Server} = gen_server:start_link(?MODULE, [], []),
    Me = self(),
    Payload = binary:copy(<<"x">>, 16),
    Pids = [spawn_link(fun() -> client(Server, Payload, Me) end) || _ <- lists:seq(1, Clients)],
    Each = max(1, Total div Clients),
    Run = fun(N) ->
        twin:timed(fun() -> [Pid ! N || Pid <- Pids], [receive done -> ok end || _ <- Pids] end)
    end,
    Run(max(1, Each div 10)),
    Rate = Each * Clients * 1.0e6 / Run(Each),
    Plural = case Clients of 1 -> ""; _ -> "s" end,
    twin:sample(["call and reply, ", twin:group(Clients), " client", Plural, ", ",
                 twin:schedulers(), ", thousand/s"], Rate).

client(Server, Payload, Main) ->
    receive Count -> ask(Count, Server, Payload) end,
    Main ! done,
    client(Server, Payload, Main).

ask(0, _, _) -> ok;
ask(Left, Server, Payload) ->
    Payload = gen_server:call(Server, Payload, infinity),
    ask(Left - 1, Server, Payload).

init([]) -> {ok, none}.
handle_call(Payload, _, State) -> {reply, Payload, State}.
handle_cast(_, State) -> {noreply, State}.
