%% Births and ends, and the memory of idle processes.
-module(twin_life).
-export([spawns/0, idle/2, hibernated/1]).

spawns() ->
    OneByOne = twin:of_full(200000),
    one_by_one(OneByOne div 10),
    report("one after another", OneByOne, twin:timed(fun() -> one_by_one(OneByOne) end)),
    case erlang:system_info(schedulers_online) of
        1 -> ok;
        Spawners ->
            report(io_lib:format("one after another, ~b spawners", [Spawners]),
                   Spawners * OneByOne,
                   twin:timed(fun() -> many_one_by_one(Spawners, OneByOne) end))
    end,
    Batch = twin:of_full(100000),
    batch(Batch),
    report("batch of " ++ twin:label(100000), Batch, twin:timed(fun() -> batch(Batch) end)).

report(How, Count, Took) ->
    twin:sample(["spawn+run+exit, ", How, ", ", twin:schedulers(), ", thousand/s"],
                Count * 1.0e6 / Took).

one_by_one(0) -> ok;
one_by_one(Left) ->
    {_, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, _, _} -> one_by_one(Left - 1) end.

%% Several processes, each of which starts so many.
many_one_by_one(Spawners, Count) ->
    Monitors = [element(2, spawn_monitor(fun() -> one_by_one(Count) end))
                || _ <- lists:seq(1, Spawners)],
    [receive {'DOWN', Monitor, process, _, normal} -> ok end || Monitor <- Monitors],
    ok.

%% All at once, and none awaited: until no child is left in the table.
batch(Count) ->
    Before = erlang:system_info(process_count),
    [spawn(fun() -> ok end) || _ <- lists:seq(1, Count)],
    until_gone(Before).

until_gone(Before) ->
    case erlang:system_info(process_count) =< Before of
        true -> ok;
        false -> erlang:yield(), until_gone(Before)
    end.

%% Processes that have each answered one request: growth of the resident memory
%% of the whole virtual machine.
idle(FullCount, Way) ->
    Count = twin:of_full(FullCount),
    garbage_collect(),
    Before = resident(),
    Pids = [start(Way, Number) || Number <- lists:seq(1, Count)],
    List = Count * 16,
    Me = self(),
    [begin Pid ! {get, Me}, receive {count, Pid, _} -> ok end end || Pid <- Pids],
    garbage_collect(),
    After = resident(),
    twin:sample(["idle memory, ", twin:group(Count), " WAT, B/process [", Way, "]"],
                (After - Before - List) / Count),
    erlang:phash2(Pids).

start("plain", Number) -> spawn(fun() -> plain(Number) end);
start("hibernated", Number) -> spawn(fun() -> erlang:hibernate(?MODULE, hibernated, [Number]) end).

plain(Count) ->
    receive {get, From} -> From ! {count, self(), Count}, plain(Count) end.

hibernated(Count) ->
    receive {get, From} -> From ! {count, self(), Count} end,
    erlang:hibernate(?MODULE, hibernated, [Count]).

resident() ->
    {ok, Text} = file:read_file("/proc/self/status"),
    {match, [Kilobytes]} = re:run(Text, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kilobytes) * 1024.
