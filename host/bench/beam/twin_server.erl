%% Swapped by twin_swap: a gen_server whose state tells the version that it was
%% made or converted by. VERSION is set when it is compiled.
-module(twin_server).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
-ifndef(VERSION).
-define(VERSION, 1).
-endif.

start() ->
    {ok, Pid} = gen_server:start(?MODULE, [], []),
    Pid.

init([]) -> {ok, {?VERSION, 0}}.

handle_call(_, _, State) -> {reply, State, State}.
handle_cast(_, State) -> {noreply, State}.

handle_info({ask, From}, {Version, Count}) ->
    From ! {answer, Version},
    {noreply, {Version, Count + 1}}.

code_change(_, {_, Count}, _) -> {ok, {?VERSION, Count}}.
