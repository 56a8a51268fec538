package com.mindspore.config;

public class MSContext {
    public boolean ready;
    private boolean started;

    public boolean init(int threads, int bindMode) {
        started = threads > 0 && bindMode == CpuBindMode.HIGHER_CPU;
        return started;
    }

    public boolean addDeviceInfo(int device, boolean half) {
        ready = started && device == DeviceType.DT_CPU && !half;
        return ready;
    }
}
